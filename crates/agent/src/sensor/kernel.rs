//! The kernel's side, opened: the eBPF programs loaded and attached, their ring buffer and their count
//! of losses mapped into our memory, and the socket of the proc connector. **The only file of the
//! sensor with `unsafe` in it.**
//!
//! All that needs privilege happens in [`Kernel::open`] and [`connector_socket`]. What goes on after
//! (reading mapped memory, polling a descriptor) needs none, on any kernel: so nothing here makes a
//! `bpf()` call later, which kernels before 5.19 refuse to a process without `CAP_BPF`.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use aya::maps::{Map, MapData, RingBuf};
use aya::programs::BtfTracePoint;
use aya::{Btf, Ebpf, EbpfLoader};
use nix::sys::resource::{Resource, setrlimit};

/// The programs in `bpf/sensor.bpf.c`, each with its tracepoint.
const PROGRAMS: [(&str, &str); 4] = [
    ("on_fork", "sched_process_fork"),
    ("on_exec", "sched_process_exec"),
    ("on_exit", "sched_process_exit"),
    ("on_tcp_state", "inet_sock_set_state"),
];

/// The ring buffer between kernel and reader: 4 MiB.
///
/// A process's life is about 0.6 KiB of records (fork 48, start about 350, exit 40, headers). The
/// highest rate seen on two cores, 1,640 starts a second, makes 1 MiB a second: the reader may be kept
/// from running for 4 s. With 8 KiB of arguments each, for 0.3 s.
pub(super) const RING_BYTES: u32 = 4 << 20;

/// The waiting part of the ring at which even records that nobody hurries for wake the reader: a
/// quarter, so that three quarters are left for the time it takes to come.
const WAKE_AT_PART: u32 = 4;

#[cfg(cordon_ebpf)]
fn object() -> Option<&'static [u8]> {
    Some(aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sensor.bpf.o")))
}

#[cfg(not(cordon_ebpf))]
fn object() -> Option<&'static [u8]> {
    None
}

/// Why the programs are not there.
#[derive(Debug, thiserror::Error)]
pub(super) enum KernelError {
    #[error("cordon was built without clang, so without the eBPF programs")]
    NotBuilt,
    #[error("the kernel shows no types at /sys/kernel/btf/vmlinux: {0}")]
    NoTypes(#[from] aya::BtfError),
    #[error("the kernel refused the eBPF maps: {0}")]
    Maps(#[from] aya::EbpfError),
    #[error("the kernel refused the eBPF program `{0}`: {1}")]
    Program(&'static str, aya::programs::ProgramError),
    #[error("the eBPF object has no `{0}`")]
    Missing(&'static str),
    #[error("the kernel refused the ring buffer: {0}")]
    Ring(#[from] aya::maps::MapError),
    #[error("the kernel refused memory for the loss count: {0}")]
    Count(#[source] io::Error),
}

/// What the programs look at; each a namespace by its number (inode).
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope {
    /// Only this network namespace; 0: all.
    pub network_namespace: u32,
    /// Only processes that are in this PID namespace, and by their numbers there; 0: all, by the numbers of
    /// the first one.
    pub pid_namespace: u32,
}

/// The attached programs. Dropping it detaches them.
pub(super) struct Kernel {
    ring: RingBuf<MapData>,
    lost: SharedCount,
    /// `/proc/self/fdinfo` of each program, opened while that was still allowed.
    program_facts: Vec<File>,
    /// Holds the programs attached.
    _programs: Ebpf,
}

impl Kernel {
    /// Loads and attaches the programs.
    pub fn open(scope: Scope, ring_bytes: u32) -> Result<Self, KernelError> {
        let object = object().ok_or(KernelError::NotBuilt)?;
        // Kernels before 5.11 count maps against this limit. Refused: the load says so.
        let unlimited = libc::RLIM_INFINITY;
        let _ = setrlimit(Resource::RLIMIT_MEMLOCK, unlimited, unlimited);
        let types = Btf::from_sys_fs()?;
        let wake_at_bytes = ring_bytes / WAKE_AT_PART;
        let mut programs = EbpfLoader::new()
            .btf(Some(&types))
            .override_global("only_netns", &scope.network_namespace, true)
            .override_global("own_pidns", &scope.pid_namespace, true)
            .override_global("wake_at_bytes", &wake_at_bytes, true)
            .map_max_entries("ring", ring_bytes)
            .load(object)?;
        let ring = programs.take_map("ring").ok_or(KernelError::Missing("ring"))?;
        let ring = RingBuf::try_from(ring)?;
        let lost = programs.take_map("lost").ok_or(KernelError::Missing("lost"))?;
        let lost = match &lost {
            Map::Array(data) => SharedCount::map(data.fd().as_fd()).map_err(KernelError::Count)?,
            _ => return Err(KernelError::Missing("lost")),
        };
        let mut program_facts = Vec::new();
        for (name, tracepoint) in PROGRAMS {
            let program = programs.program_mut(name).ok_or(KernelError::Missing(name))?;
            let refused = |error| KernelError::Program(name, error);
            let program: &mut BtfTracePoint = program.try_into().map_err(refused)?;
            program.load(tracepoint, &types).map_err(refused)?;
            let number = program.fd().map_err(refused)?.as_fd().as_raw_fd();
            program_facts.extend(File::open(format!("/proc/self/fdinfo/{number}")));
        }
        // All are loaded before the first is attached: either the sensor sees everything, or nothing.
        for (name, _) in PROGRAMS {
            let program = programs.program_mut(name).ok_or(KernelError::Missing(name))?;
            let refused = |error| KernelError::Program(name, error);
            let program: &mut BtfTracePoint = program.try_into().map_err(refused)?;
            program.attach().map_err(refused)?;
        }
        drop(types);
        give_back_memory();
        Ok(Self { ring, lost, program_facts, _programs: programs })
    }

    /// The next record, if there is one.
    pub fn next(&mut self) -> Option<impl std::ops::Deref<Target = [u8]>> {
        self.ring.next()
    }

    /// How many records the ring had no room for, ever.
    pub fn lost(&self) -> u64 {
        self.lost.now()
    }

    /// How often, ever, the kernel left out a program because it was already running on that processor
    /// (a packet interrupted it). It counts before the network namespace is looked at.
    pub fn skipped(&self) -> u64 {
        self.program_facts.iter().filter_map(recursion_misses).sum()
    }
}

impl AsFd for Kernel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

/// The kernel's types are 300,000 lines, looked up once: 15 MiB that the allocator would keep for ever.
fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim has no preconditions; it only returns what is free already.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The line `recursion_misses:` of a program's facts (since Linux 5.12).
fn recursion_misses(facts: &File) -> Option<u64> {
    let mut bytes = [0; 1024];
    let length = facts.read_at(&mut bytes, 0).ok()?;
    let text = std::str::from_utf8(bytes.get(..length)?).ok()?;
    text.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?.trim().parse().ok()
}

/// A number that the kernel program counts up, in memory shared with it.
struct SharedCount {
    at: NonNull<AtomicU64>,
    bytes: usize,
}

// SAFETY: the mapping belongs to the process, not to the thread that made it, and is only read,
// through an atomic.
unsafe impl Send for SharedCount {}

impl SharedCount {
    /// Maps the first value of an array map that was made with `BPF_F_MMAPABLE`.
    fn map(array: BorrowedFd<'_>) -> io::Result<Self> {
        // SAFETY: sysconf has no preconditions.
        let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
        // SAFETY: a new mapping at an address that the kernel chooses touches no memory of ours. An
        // array map of one value is at least one page long, so the whole of it may be read.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ,
                libc::MAP_SHARED,
                array.as_raw_fd(),
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let at = NonNull::new(at.cast()).ok_or_else(|| io::Error::other("mapped at zero"))?;
        Ok(Self { at, bytes })
    }

    fn now(&self) -> u64 {
        // SAFETY: `at` is the start of a page (so aligned), readable until `self` is dropped; the
        // kernel program changes it only atomically.
        unsafe { self.at.as_ref() }.load(Ordering::Relaxed)
    }
}

impl Drop for SharedCount {
    fn drop(&mut self) {
        // SAFETY: address and length are those that `mmap` gave, unmapped nowhere else, and no
        // reference into the mapping outlives `now`.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.bytes) };
    }
}

/// A netlink socket of the connector's protocol, which `nix` has no name for.
pub(super) fn connector_socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: socket has no preconditions; its result is checked before use.
    let number = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_CONNECTOR) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open, was made just now, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
