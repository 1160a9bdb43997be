//! Parts in the store, and what is kept of those that are gone.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use millpond_engine::{COUNTED_TAGS_MAX, Config, Engine, WARM_LEN_MAX};

const TAGS: u64 = 1000;

#[test]
fn of_ever_new_tags_the_counts_of_the_highest_are_kept_and_the_store_does_not_grow() {
    let config = Config { worker_count: 1, warm_len_max: WARM_LEN_MAX, memory_limit: None };
    let engine = Engine::<()>::new(config).unwrap();
    for tag in 0..TAGS {
        let id = engine.store(&tag.to_le_bytes(), 0, tag).unwrap();
        engine.let_go(id);
    }
    let mut tags: Vec<u64> = engine.part_counts().into_keys().collect();
    tags.sort_unstable();
    assert_eq!(tags, (TAGS - COUNTED_TAGS_MAX as u64..TAGS).collect::<Vec<_>>());
}
