//! What of an engine goes when its pool is shut down.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::buffers::Kept;
use crate::deliver::Ticket;
use crate::parts::{Parts, Row};

/// What goes when the pool is shut down.
pub(crate) struct Live {
    pub(crate) engine: millpond_engine::Engine<Ticket>,
    pub(crate) parts: Parts,
    pub(crate) buffers: Kept,
    /// Counted size of the last task, by which the next one's is guessed.
    pub(crate) last_len: AtomicU64,
}

impl Live {
    pub(crate) fn new(engine: millpond_engine::Engine<Ticket>, kept_len_max: u64) -> Self {
        let (parts, buffers) = (Parts::new(kept_len_max), Kept::new(kept_len_max));
        Self { engine, parts, buffers, last_len: AtomicU64::new(0) }
    }

    pub(crate) fn rows(&self) -> Vec<Row> {
        self.parts.records.rows(&self.engine.part_counts())
    }

    pub(crate) fn counts(&self) -> Vec<(&'static str, u64)> {
        let counts = self.engine.counts();
        let part_bytes = self.parts.pickled_bytes.load(Ordering::Relaxed);
        let mut all = vec![
            ("tasks_dispatched", counts.tasks_dispatched),
            ("bytes_pickled", counts.task_bytes + part_bytes),
            ("heavy_parts_pickled", self.parts.pickled.load(Ordering::Relaxed)),
            ("heavy_bytes_pickled", part_bytes),
            ("heavy_parts_tracked", self.parts.tracked.load(Ordering::Relaxed)),
            ("heavy_parts_verified", self.parts.verified.load(Ordering::Relaxed)),
            ("stored_bytes", counts.stored_bytes),
            ("borrowed_bytes", counts.borrowed_bytes),
            ("warm_bytes", counts.warm_bytes),
            ("worker_deaths", counts.worker_deaths),
            ("retries", counts.retries),
            ("timeouts", counts.timeouts),
            ("memory_kills", counts.memory_kills),
            ("damaged", counts.damaged),
        ];
        all.extend(self.engine.worker_counts().into_iter().map(|(name, sum)| match name {
            "heavy_parts_verified" => ("heavy_parts_verified_by_workers", sum),
            "heavy_parts_changed" => ("heavy_parts_changed_by_tasks", sum),
            "tasks" => ("tasks_completed", sum),
            other => (other, sum),
        }));
        all
    }
}
