//! Numbers of users and groups, as they are written. It looks nobody up.

/// `(uid_t)-1`, which setresuid(2), setresgid(2) and chown(2) take for "leave it as it is": nobody's number, and
/// dangerous where one is meant.
pub const NOBODYS: u32 = u32::MAX;

/// The number of a user or group: decimal digits without sign, space or leading zero, as the kernel prints it; `None`
/// when it is none. It may be [`NOBODYS`].
pub fn number(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_written_as_the_kernel_prints_it() {
        assert_eq!(["0", "7", "4294967295"].map(number), [Some(0), Some(7), Some(NOBODYS)]);
        for odd in ["", "+5", "-1", "05", "00", " 5", "5 ", "0x5", "4294967296", "٣", "1e3"] {
            assert_eq!(number(odd), None, "{odd:?}");
        }
    }
}
