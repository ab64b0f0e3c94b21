//! An allocator that counts: an input that has more allocated at one time than its target may is a crash, seen at once
//! and with its backtrace. libFuzzer's own -rss_limit_mb looks once a second.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};

/// The system's allocator, counting.
pub struct Bounded;

/// What is allocated of what `within` allows.
static TAKEN: AtomicIsize = AtomicIsize::new(0);
static MOST: AtomicIsize = AtomicIsize::new(isize::MAX);

/// Runs something that may have so many bytes more allocated than there are now.
pub fn within(bytes: usize, run: impl FnOnce()) {
    TAKEN.store(0, Relaxed);
    MOST.store(bytes as isize, Relaxed);
    run();
    MOST.store(isize::MAX, Relaxed);
}

fn take(bytes: usize) {
    let taken = TAKEN.fetch_add(bytes as isize, Relaxed) + bytes as isize;
    // Who tells of a panic allocates a lot. Nothing unwinds from here: libFuzzer's hook aborts.
    if taken > MOST.load(Relaxed) && !std::thread::panicking() {
        panic!("{taken} bytes are allocated for this input");
    }
}

fn give(bytes: usize) {
    TAKEN.fetch_sub(bytes as isize, Relaxed);
}

// SAFETY: every call is the system allocator's own, with the same arguments.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        give(layout.size());
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        take(size);
        give(layout.size());
        unsafe { System.realloc(pointer, layout, size) }
    }
}
