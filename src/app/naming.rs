//! The model that names intents, by itself: for those who measure it.

use super::{Error, parts};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::intent::Naming;
use crate::pipeline::Namer;
use std::sync::Arc;

/// Who names intents as `naming` says, asked as the requests of a sidecar with this configuration would ask. Waits until
/// a model in this process is ready. Must be called within a runtime.
pub async fn load_namer(config: &Config, naming: Naming) -> Result<Namer, Error> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut config = config.clone();
    config.rules.naming = naming.clone();
    let config = &config;
    let local = parts::local(config, &clock).await?;
    if let Some(local) = &local {
        local.settled().await;
    }
    let prices = Arc::new(parts::prices(config)?);
    let (chain, ..) = parts::chain(config, local.as_ref(), &prices)?;
    let (upstream, _) = parts::upstream(config, chain, &prices)?;
    Ok(Namer::new(naming, upstream))
}
