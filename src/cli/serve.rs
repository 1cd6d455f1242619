//! `weir serve`

use super::{Outcome, output};
use crate::app::{App, stop_signal};
use crate::config::Config;
use crate::telemetry::Log;

pub(super) fn run(config: Config) -> Outcome {
    let log = Log::start(&config.log)?;
    let json = config.log.is_json();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        for note in &config.notes {
            tracing::warn!("{note}");
        }
        // Before anyone is told that it runs: whoever stops it then expects an orderly end.
        let stop = stop_signal();
        let app = App::start(config).await?;
        if json {
            app.banner().log();
            // Whoever sees it answer also finds this line.
            log.flush();
        } else {
            output::note(app.banner().to_string());
        }
        app.run(stop).await;
        Ok(())
    });
    // A model thread in the middle of a token must not hold up the exit.
    runtime.shutdown_background();
    drop(log);
    result
}
