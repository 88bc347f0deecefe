//! Saving what is whole out of a damaged store, and what that means for its snapshots.
//!
//! The store plans by bytes ([`crate::store::RepairPlan`]); here every snapshot is looked through as it will be afterwards. A snapshot that lost
//! something is kept: what it lacks comes back when the same content is put into the store again.

use serde::Serialize;

use super::OpError;
use super::fsck::{self, Broken};
use super::inspect::Look;
use crate::id::ObjectId;
use crate::progress::Progress;
use crate::store::{RepairPlan, Store};

/// What a repair will do, and what there will be.
#[derive(Debug, Serialize)]
pub struct Plan {
    /// What is done to files.
    #[serde(flatten)]
    pub files: RepairPlan,
    /// The snapshots that will be whole.
    pub whole: Vec<ObjectId>,
    /// Those that will not, with what they lost.
    pub broken: Vec<Broken>,
}

/// Plans a repair. The store must be locked.
///
/// # Errors
/// The store's.
pub fn plan(store: &Store, progress: &dyn Progress) -> Result<Plan, OpError> {
    let files = store.plan_repair(progress)?;
    let mut ids = files.snapshot_ids()?;
    // They are looked through once they are written.
    ids.retain(|id| !files.mended.contains(&store.snapshot_place(id)));
    let fates = fsck::fates(files.store(), &ids, Look::Everything, progress)?;
    Ok(Plan { files, whole: fates.whole, broken: fates.broken.into_iter().map(|(broken, _)| broken).collect() })
}

impl Plan {
    /// Says in words what is done, for the operation log.
    pub fn note(&self) -> String {
        let saved: u64 = self.files.packs.iter().map(|pack| pack.saved).sum();
        let mut parts = Vec::new();
        let mut add = |count: u64, what: &str| {
            if count > 0 {
                parts.push(format!("{what}: {count}"));
            }
        };
        add(self.files.packs.len() as u64, "packs taken out");
        add(saved, "objects saved");
        add(self.files.mended.len() as u64, "snapshot files mended");
        add(self.files.aside.len() as u64, "tags and snapshots taken out");
        if let Some(log) = &self.files.log {
            parts.push(format!("operation log cut after entry {}", log.kept));
        }
        parts.join(", ")
    }
}
