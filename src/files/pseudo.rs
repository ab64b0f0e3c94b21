//! File systems in which nothing is stored: what is read there tells of whoever reads, and what is written there is an
//! order to the kernel, by the rights of whoever writes. A file's mode says little of either.

use std::os::fd::AsFd;

use nix::sys::statfs::fstatfs;

/// Their numbers (statfs(2), linux/magic.h).
const PSEUDO: [u32; 22] = [
    0x0000_9fa0, // proc
    0x6265_6572, // sysfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0xcafe_4a11, // bpf
    0x6265_6570, // configfs
    0x6165_676c, // pstore
    0xde5e_81e4, // efivarfs
    0xf97c_ff8c, // selinuxfs
    0x4341_5d53, // smackfs
    0x4249_4e4d, // binfmt_misc
    0x6c6f_6f70, // binder
    0x1980_0202, // mqueue
    0x6e73_6673, // nsfs
    0x0765_5821, // resctrl
    0x6573_5543, // fusectl
    0x6e66_7364, // nfsd
    0x6759_6969, // rpc_pipefs
    0xabba_1974, // xenfs
];

/// Whether something is in one of them.
pub(super) fn is_pseudo(of: impl AsFd) -> bool {
    // Its type differs between architectures, and 32 bits are what the kernel means.
    #[allow(clippy::unnecessary_cast)]
    fstatfs(of).is_ok_and(|about| PSEUDO.contains(&(about.filesystem_type().0 as u32)))
}
