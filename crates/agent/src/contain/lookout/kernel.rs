//! What of the kernel's no dependency wraps for the lookout: by which handle it tells of a folder, and the descriptors in
//! its events. **The only file of it with `unsafe`.**

#![allow(
    unsafe_code,
    reason = "calls with pointers to values that outlive them, and descriptors that are nobody else's"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};

use nix::errno::Errno;

/// linux/fcntl.h, since Linux 6.5: also where the filesystem gives none that could be opened.
const AT_HANDLE_FID: libc::c_int = 0x200;
/// linux/exportfs.h, `MAX_HANDLE_SZ`.
const MOST_BYTES: usize = 128;

/// A file or folder as the kernel names it in events: a kind, and bytes that mean something to its filesystem.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Handle {
    /// The filesystem's own number for the form of the bytes.
    pub kind: i32,
    /// At most 128.
    pub bytes: Vec<u8>,
}

/// `struct file_handle` (linux/fs.h), with room for the longest.
#[repr(C)]
struct Room {
    length: u32,
    kind: i32,
    bytes: [u8; MOST_BYTES],
}

/// The handle of what `fd` is.
///
/// # Errors
/// `EOPNOTSUPP` where its filesystem has none.
pub fn handle_of(fd: &impl AsFd) -> io::Result<Handle> {
    match named(fd, AT_HANDLE_FID) {
        // Before Linux 6.5.
        Err(Errno::EINVAL) => Ok(named(fd, 0)?),
        handle => Ok(handle?),
    }
}

/// Descriptors that the kernel made for the reader of an event just now. **Only of bytes that were read from fanotify**: they
/// are nobody else's.
pub(super) fn taken(descriptors: Vec<i32>) -> Vec<Option<OwnedFd>> {
    let take = |descriptor| {
        // SAFETY: the kernel opened it for whoever read the event, who is the caller, and nobody else knows it.
        (descriptor >= 0).then(|| unsafe { OwnedFd::from_raw_fd(descriptor) })
    };
    descriptors.into_iter().map(take).collect()
}

fn named(fd: &impl AsFd, more: libc::c_int) -> Result<Handle, Errno> {
    let mut room =
        Room { length: u32::try_from(MOST_BYTES).unwrap_or(0), kind: 0, bytes: [0; MOST_BYTES] };
    let mut mount = 0_i32;
    // SAFETY: the name is empty and ends with a NUL; the kernel writes at most `length` bytes behind the two numbers,
    // and there is room for them; both outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            fd.as_fd().as_raw_fd(),
            c"".as_ptr(),
            &raw mut room,
            &raw mut mount,
            libc::AT_EMPTY_PATH | more,
        )
    };
    Errno::result(result)?;
    let length = (room.length as usize).min(MOST_BYTES);
    Ok(Handle { kind: room.kind, bytes: room.bytes[..length].to_vec() })
}
