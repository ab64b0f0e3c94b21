//! What the agent's start needed in memory and its rest doesn't.

use std::ffi::{c_int, c_void};

use nix::unistd::{getpid, gettid};

/// Lets go of the pages of code and constants that were touched so far. They are clean, so nothing is lost: what is
/// needed again comes back from the page cache. The kernel maps sixteen pages for each one touched, and a start
/// touches nearly everything once: of a plain init's 4.0 MB of PSS, 3.7 MB were such pages.
///
/// And of the stack below, that only the start was deep enough for: a quarter of a megabyte where a config was read.
pub fn forget_start() {
    #[allow(unsafe_code)]
    // SAFETY: the callback is called for the program itself, with headers that live as long as it.
    unsafe {
        libc::dl_iterate_phdr(Some(forget), std::ptr::null_mut());
    }
    forget_stack();
}

/// Kept below the frame that asks: for those of the calls it makes, and for what needs no more than that.
const STACK_KEPT: usize = 16 << 10;

/// Deeper than any start goes.
const STACK_FORGOTTEN: usize = 4 << 20;

#[allow(unsafe_code)]
fn forget_stack() {
    // Of another thread, what lies below belongs to somebody else.
    if gettid() != getpid() {
        return;
    }
    let frame = 0_u8;
    let end = (&raw const frame as usize - STACK_KEPT) & !(page_size() - 1);
    // SAFETY: on x86 and ARM a stack grows down, so nothing that lives is below this frame and those of the call; and the
    // kernel keeps 128 MB below the first thread's free of mappings (`mmap_base`). What isn't mapped is passed over
    // (madvise(2), ENOMEM).
    unsafe {
        libc::madvise((end - STACK_FORGOTTEN) as *mut c_void, STACK_FORGOTTEN, libc::MADV_DONTNEED);
    }
}

fn page_size() -> usize {
    #[allow(unsafe_code)]
    // SAFETY: sysconf only answers; the page size is always known.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    page as usize
}

#[allow(unsafe_code)]
unsafe extern "C" fn forget(info: *mut libc::dl_phdr_info, _size: usize, _data: *mut c_void) -> c_int {
    // SAFETY: the C library hands out a valid entry, whose headers are `dlpi_phnum` long.
    let (base, headers) = unsafe {
        let info = &*info;
        (info.dlpi_addr, std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)))
    };
    let page = page_size() as u64;
    for header in headers.iter().filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0) {
        let start = (base + header.p_vaddr) & !(page - 1);
        let end = base + header.p_vaddr + header.p_memsz;
        // SAFETY: a segment that can't be written has nothing but the file's own pages, which the kernel reads again
        // when they are touched (madvise(2), MADV_DONTNEED on a private file mapping).
        unsafe {
            libc::madvise(start as *mut c_void, (end - start) as usize, libc::MADV_DONTNEED);
        }
    }
    // One entry is the program itself; a static one has no other but the kernel's vdso, which is left alone.
    1
}
