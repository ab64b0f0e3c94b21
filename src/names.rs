//! Keeps the C library's name lookups out of the binary. Libraries name `getaddrinfo` on ways that are never taken
//! here (reqwest, when it has no resolver of ours), and the linker can't know: glibc's comes with its name service
//! switch, which loads the image's modules into a static binary and crashes where they are another libc's. So its
//! place is taken by one that always refuses; [`pilotfish::net::resolver`] is how names are looked up.

use std::ffi::{c_char, c_int};

/// Refuses: a caller that gets here has a mistake to mend, but no container dies of it.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
extern "C" fn getaddrinfo(
    _: *const c_char,
    _: *const c_char,
    _: *const libc::addrinfo,
    _: *mut *mut libc::addrinfo,
) -> c_int {
    libc::EAI_FAIL
}

/// Nothing was ever given out that could be freed. glibc's stands in the same object file as its `getaddrinfo`.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
extern "C" fn freeaddrinfo(_: *mut libc::addrinfo) {}
