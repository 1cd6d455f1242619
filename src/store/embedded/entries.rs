//! [`Entries`]: the entries by their keys. sled has the keys, and of each value where it lies in [`Values`] and what is
//! asked of it most ([`Stub`]); values of older formats lie in sled itself, as long as nobody writes them anew.

use super::codec::{self, Damaged, Head, Stub};
use super::disk::{failed, set};
use super::values::{Extent, Values};
use crate::store::Error;
use sled::{IVec, Tree};
use std::ops::RangeBounds;

pub(super) struct Entries {
    tree: Tree,
    values: Values,
}

impl Entries {
    pub(super) fn new(tree: Tree, values: Values) -> Self {
        Self { tree, values }
    }

    pub(super) fn values(&self) -> &Values {
        &self.values
    }

    /// The value of a key. One that cannot be found where it should be is empty, which is none that was ever written.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<IVec>, Error> {
        let lies = self.tree.get(key).map_err(failed)?;
        lies.map_or(Ok(None), |lies| self.value(key, lies))
    }

    /// What is noted of the value of a key. It is not read for that, but where it lies in sled itself.
    pub(super) fn head(&self, key: &[u8]) -> Result<Option<Result<Head, Damaged>>, Error> {
        let lies = self.tree.get(key).map_err(failed)?;
        Ok(lies.map(|lies| head(key, &lies)))
    }

    /// Writes a value, or where it lies in a file that is taken over; removes where there is none. Says what was there.
    pub(super) fn set(
        &self,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<Option<Result<Head, Damaged>>, Error> {
        let lies = value.map(|value| match extent(value) {
            Some(at) => self.values.adopt(at.file).map(|()| value.into()),
            None => self.placed(value),
        });
        self.set_placed(key, lies.transpose()?)
    }

    /// Writes a value, and says where it lies: what is to be written beside its key.
    pub(super) fn placed(&self, value: &[u8]) -> Result<IVec, Error> {
        let Ok(head) = Head::of(value) else { return Ok(value.into()) };
        Ok(Stub { at: self.values.append(value)?, head }.written().as_slice().into())
    }

    /// Writes where a value lies, and removes that where there is none. Says what was there.
    pub(super) fn set_placed(
        &self,
        key: &[u8],
        lies: Option<IVec>,
    ) -> Result<Option<Result<Head, Damaged>>, Error> {
        let was = set(&self.tree, key, lies).map_err(failed)?;
        Ok(was.map(|was| head(key, &was)))
    }

    pub(super) fn remove(&self, key: &[u8]) -> Result<(), Error> {
        self.tree.remove(key).map(drop).map_err(failed)
    }

    /// Keys and where their values lie, in order.
    pub(super) fn places<K: AsRef<[u8]>>(&self, keys: impl RangeBounds<K>) -> sled::Iter {
        self.tree.range(keys)
    }

    /// All keys, in order.
    pub(super) fn keys(&self) -> impl Iterator<Item = Result<IVec, Error>> + use<> {
        self.keys_under(&[])
    }

    /// All keys that begin so.
    pub(super) fn keys_under(&self, prefix: &[u8]) -> impl Iterator<Item = Result<IVec, Error>> + use<> {
        self.tree.scan_prefix(prefix).keys().map(|key| key.map_err(failed))
    }

    /// A key and its value, by where it lies; `None` where it has gone meanwhile.
    pub(super) fn read(&self, place: sled::Result<(IVec, IVec)>) -> Option<Result<(IVec, IVec), Error>> {
        let (key, lies) = match place {
            Ok(place) => place,
            Err(error) => return Some(Err(failed(error))),
        };
        let value = self.value(&key, lies).transpose()?;
        Some(value.map(|value| (key, value)))
    }

    /// Writes a value again, and says where it lies then; `None` where it cannot be found, which is found to be damage
    /// when it is read.
    pub(super) fn written_again(&self, lies: &[u8]) -> Result<Option<IVec>, Error> {
        let Some(Stub { at, head }) = Stub::read(lies) else { return Ok(None) };
        let Some(value) = self.values.read(at)? else { return Ok(None) };
        Ok(Some(Stub { at: self.values.append(&value)?, head }.written().as_slice().into()))
    }

    /// Notes that a value lies elsewhere, unless another has taken its place.
    pub(super) fn moved(&self, key: &[u8], from: &IVec, to: IVec) -> Result<(), Error> {
        // That it was replaced is no error.
        self.tree.compare_and_swap(key, Some(from), Some(to)).map(drop).map_err(failed)
    }

    fn value(&self, key: &[u8], mut lies: IVec) -> Result<Option<IVec>, Error> {
        loop {
            let Some(Stub { at, head }) = Stub::read(&lies) else { return Ok(Some(lies)) };
            if let Some(value) = self.values.read(at)? {
                let is_whole = Head::of(&value) == Ok(head);
                return Ok(Some(if is_whole { value.into() } else { IVec::default() }));
            }
            // It may have been moved, and its file removed, meanwhile.
            match self.tree.get(key).map_err(failed)? {
                Some(now) if now == lies => return Ok(Some(IVec::default())),
                Some(now) => lies = now,
                None => return Ok(None),
            }
        }
    }
}

/// Where a value lies, if that is not in sled itself.
pub(super) fn extent(lies: &[u8]) -> Option<Extent> {
    Stub::read(lies).map(|stub| stub.at)
}

fn head(key: &[u8], lies: &[u8]) -> Result<Head, Damaged> {
    match Stub::read(lies) {
        Some(stub) => Ok(stub.head),
        None => codec::verified_head(key, lies),
    }
}
