#![allow(unsafe_code, reason = "the pieces are used by their address")]

use millpond_sys::huge_pages::{HUGE_LEN_MIN, HugeStretch, advise};

#[test]
fn the_advice_changes_no_content() {
    let filled: Vec<u8> = (0..HUGE_LEN_MIN + 12_345).map(|index| index as u8).collect();
    advise(filled.as_ptr(), filled.len());
    assert!(filled.iter().enumerate().all(|(index, &byte)| byte == index as u8));
}

#[test]
fn the_advice_marks_the_memory_as_advised() {
    let memory: Vec<u8> = Vec::with_capacity(2 * HUGE_LEN_MIN);
    advise(memory.as_ptr(), memory.capacity());
    // Inside the vector, whole pages from its start: "hg" is the flag of MADV_HUGEPAGE (proc(5)).
    let inside = memory.as_ptr().addr() + HUGE_LEN_MIN;
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut within = false;
    for line in smaps.lines() {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        if let Some((from, to)) = range {
            if let (Ok(from), Ok(to)) =
                (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16))
            {
                within = (from..to).contains(&inside);
            }
        }
        if within && line.starts_with("VmFlags:") {
            let has_thp = std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists();
            assert_eq!(line.split_whitespace().any(|flag| flag == "hg"), has_thp, "{line}");
            return;
        }
    }
    panic!("the vector's mapping is not in smaps");
}

#[test]
fn a_short_range_is_left_alone() {
    let short = [1_u8; 100];
    advise(short.as_ptr(), short.len());
    assert_eq!(short, [1; 100]);
}

#[test]
fn pieces_of_a_stretch_are_apart_and_outlive_it() {
    let mut stretch = HugeStretch::new(3 << 20).unwrap();
    let pieces: Vec<*mut u8> = std::iter::from_fn(|| stretch.take(1 << 20)).collect();
    // Three MiB are rounded up to large pages of two.
    assert_eq!(pieces.len(), 4);
    assert!(pieces.windows(2).all(|pair| pair[1].addr() - pair[0].addr() == 1 << 20));
    assert!(stretch.take(1).is_none());
    drop(stretch);
    for &piece in &pieces {
        // SAFETY: the piece is ours: a MiB of zeroed memory, mapped until the end of the process.
        unsafe {
            assert_eq!(piece.read(), 0);
            piece.write(1);
        }
    }
}
