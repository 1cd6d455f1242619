//! [`Faulty`]: a store that fails or stalls when told to.

use crate::store::{Counters, Entry, EntryId, Error, Match, Scope, Steps, Store, Walk};
use crate::vector::UnitVector;
use async_trait::async_trait;
use std::sync::Arc;
use tokio::sync::watch;

/// What a [`Faulty`] store does with its calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// It hands them on.
    #[default]
    Off,
    /// It answers them with an error.
    Fail,
    /// It leaves them waiting until the fault changes.
    Stall,
}

/// Sets the fault of the store it came with. Clones set the same one.
#[derive(Clone, Debug)]
pub struct Switch(Arc<watch::Sender<Fault>>);

impl Switch {
    /// From now on, this is what happens; calls that stall are woken.
    pub fn set(&self, fault: Fault) {
        self.0.send_replace(fault);
    }
}

/// A store with a fault that can be switched on and off.
#[derive(Debug)]
pub struct Faulty<S> {
    inner: S,
    switch: Switch,
}

impl<S> Faulty<S> {
    /// Puts a fault, off for now, in front of `inner`.
    pub fn new(inner: S) -> (Self, Switch) {
        let switch = Switch(Arc::new(watch::Sender::default()));
        (Self { inner, switch: switch.clone() }, switch)
    }

    async fn pass(&self) -> Result<(), Error> {
        let mut fault = self.switch.0.subscribe();
        // The sender lives in `self`, so the wait can only end by a change.
        let fault = fault.wait_for(|fault| *fault != Fault::Stall).await.map(|fault| *fault);
        match fault {
            Ok(Fault::Off) => Ok(()),
            Ok(Fault::Fail | Fault::Stall) | Err(_) => Err(Error::Io("told to fail".to_owned())),
        }
    }
}

#[async_trait]
impl<S: Store> Store for Faulty<S> {
    async fn nearest(&self, scope: &Scope, query: &UnitVector, k: usize) -> Result<Vec<Match>, Error> {
        self.pass().await?;
        self.inner.nearest(scope, query, k).await
    }

    async fn load(&self, scope: &Scope, id: &EntryId) -> Result<Option<Entry>, Error> {
        self.pass().await?;
        self.inner.load(scope, id).await
    }

    async fn put(&self, scope: &Scope, entry: Entry) -> Result<(), Error> {
        self.pass().await?;
        self.inner.put(scope, entry).await
    }

    async fn remove(&self, scope: &Scope, id: &EntryId) -> Result<bool, Error> {
        self.pass().await?;
        self.inner.remove(scope, id).await
    }

    async fn clear(&self, scope: &Scope) -> Result<u64, Error> {
        self.pass().await?;
        self.inner.clear(scope).await
    }

    async fn walk(&self, walk: Walk) -> Result<Steps, Error> {
        self.pass().await?;
        self.inner.walk(walk).await
    }

    fn asked(&self, scope: &Scope, id: &EntryId, answered: bool) {
        self.inner.asked(scope, id, answered);
    }

    fn counters(&self) -> Counters {
        self.inner.counters()
    }
}
