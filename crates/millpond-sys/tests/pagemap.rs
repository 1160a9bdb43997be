#![allow(clippy::print_stdout, reason = "it says what is not here")]

use millpond_sys::mapping::page_size;
use millpond_sys::pagemap::{
    Pagemap, Query, Region, WORD_FILE, WORD_PRESENT, WORD_SWAPPED, category,
};

use crate::support::{Memory, in_child};

const PAGES: usize = 1200;

fn present(memory: &Memory) -> Query {
    let (start, end) = (memory.start, memory.start + memory.len);
    Query { start, end, all_of: category::PRESENT, ..Query::default() }
}

/// None where the kernel has no scan, which is then said.
fn scan(pagemap: &Pagemap, query: &Query, room: usize) -> Option<(Vec<(usize, usize)>, usize)> {
    let mut found = vec![Region::default(); room];
    match pagemap.scan(query, &mut found) {
        Ok(scanned) => {
            found.truncate(scanned.regions);
            let pages = |address: u64| (address as usize - query.start) / page_size();
            let found = found.iter().map(|one| (pages(one.start), pages(one.end))).collect();
            Some((found, (scanned.end - query.start) / page_size()))
        }
        Err(error) => {
            assert!(error.is_not_supported(), "{error}");
            println!("no scan here: {error}");
            None
        }
    }
}

#[test]
fn words_tell_what_each_page_is() {
    let pagemap = Pagemap::open().unwrap();
    let (memory, _file) = Memory::of_a_file(PAGES);
    assert_eq!(memory.read(3 * page_size()), 5);
    memory.write(700 * page_size(), 6);
    // More than one read takes.
    let mut words = vec![1; PAGES];
    pagemap.words(memory.start, &mut words).unwrap();
    let kind = |page: usize| words[page] & (WORD_PRESENT | WORD_SWAPPED | WORD_FILE);
    assert_eq!(kind(3), WORD_PRESENT | WORD_FILE);
    assert_eq!(kind(700), WORD_PRESENT);
    assert_eq!(kind(1199), 0);
}

#[test]
fn a_scan_finds_what_the_query_asks_for() {
    let pagemap = Pagemap::open().unwrap();
    let memory = Memory::new(PAGES);
    for page in [0, 7, 8, 9, PAGES - 1] {
        memory.write(page * page_size(), 1);
    }
    let Some(all) = scan(&pagemap, &present(&memory), 8) else { return };
    assert_eq!(all, (vec![(0, 1), (7, 10), (PAGES - 1, PAGES)], PAGES));
    let some = Query { pages_max: 2, ..present(&memory) };
    assert_eq!(scan(&pagemap, &some, 8).unwrap(), (vec![(0, 1), (7, 8)], 8));
    // What has no room is found by a scan from where this one ended.
    let (first, end) = scan(&pagemap, &present(&memory), 1).unwrap();
    assert_eq!(first, [(0, 1)]);
    assert!((1..=7).contains(&end), "{end}");
    let absent = Query { inverted: category::PRESENT, ..present(&memory) };
    let (found, end) = scan(&pagemap, &absent, 8).unwrap();
    assert_eq!(found.iter().map(|(start, end)| end - start).sum::<usize>(), PAGES - 5);
    assert_eq!(end, PAGES);
}

#[test]
fn tracking_is_checked_on_request() {
    let pagemap = Pagemap::open().unwrap();
    let memory = Memory::filled(4);
    if scan(&pagemap, &present(&memory), 1).is_none() {
        return;
    }
    let query = Query { checks_tracking: true, ..present(&memory) };
    let error = pagemap.scan(&query, &mut [Region::default()]).unwrap_err();
    assert_eq!(error.raw_os_error(), libc::EPERM);
}

#[test]
fn a_child_is_told_nothing_of_its_parents_pages() {
    let pagemap = Pagemap::open().unwrap();
    let memory = Memory::filled(4);
    assert!(in_child(|| {
        let scanned = pagemap.scan(&present(&memory), &mut [Region::default()]);
        scanned.is_err() && pagemap.words(memory.start, &mut [0]).is_err() && !pagemap.is_here()
    }));
    assert!(pagemap.is_here() && pagemap.words(memory.start, &mut [0]).is_ok());
}

#[test]
fn beyond_the_address_space_there_is_an_error() {
    let pagemap = Pagemap::open().unwrap();
    assert!(pagemap.words(usize::MAX - page_size(), &mut [0; 4]).is_err());
    let query = Query { start: usize::MAX - page_size() + 1, end: usize::MAX, ..Query::default() };
    assert!(pagemap.scan(&query, &mut [Region::default()]).is_err());
}
