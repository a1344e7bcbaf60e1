// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// What the kernel tells Cordon: process starts, forks and exits, and TCP connections, as records in
// one ring buffer. The one idea: everything that a rule needs leaves the kernel *in the record*
// (full command line, the path of the file that really runs, the working directory), because the
// reader is unprivileged and the process may be gone before it looks.
//
// Each program first asks whether the network namespace is the wanted one, since many agents may run
// on one kernel: for the others that costs a few loads and a compare.
//
// The layout of the records is read by src/sensor/record.rs; change both together.

#include "kernel.h"

// Most helpers are only for programs under a licence compatible with the kernel's: so this file and
// kernel.h, and only they, are offered under GPL-2.0 too. (The string must be one of the kernel's.)
char LICENSE[] SEC("license") = "GPL";

// Set before loading: the network namespace (inode) to look at, or 0 for all of them; how many unread
// bytes wake the reader for records that could otherwise wait.
const volatile __u32 only_netns = 0;
const volatile __u32 wake_at_bytes = 0;
// The PID namespace (inode) that the reader is in, or 0 for the first one. Processes are told by their
// numbers there, for the reader looks them up in its own /proc; those that are not there are left out.
const volatile __u32 own_pidns = 0;

// The size is set before loading (RING_BYTES in src/sensor/kernel.rs).
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

// How many records did not fit into the ring, ever. Mapped into the reader's memory: it must be able
// to read this without any privilege.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

enum kind { FORKED = 1, STARTED = 2, EXITED = 3, CONNECTION = 4 };

struct forked {
	__u32 kind;
	__u32 netns;
	__u64 time;
	__u64 started;
	__u64 parent_started;
	__u32 pid;
	__u32 parent;
};

struct exited {
	__u32 kind;
	__u32 netns;
	__u64 time;
	__u64 started;
	__u32 pid;
	__s32 code;
};

#define ARGS_BYTES 8192 // as much as most commands have; the reader completes longer ones from /proc
#define PATH_BYTES 4096 // PATH_MAX
#define NAME_BYTES 256  // NAME_MAX and its NUL
#define PATH_STEPS 128  // names and mounts from a file up to the root; deeper ones are marked as cut

enum {
	ARGS_CUT = 1,
	ARGS_UNREADABLE = 2,
	IMAGE_CUT = 4,
	IMAGE_DELETED = 8,
	IMAGE_DETACHED = 16, // below no root: a memfd, or a lazily unmounted file system
	DIRECTORY_CUT = 32,
	DIRECTORY_DELETED = 64,
	DIRECTORY_DETACHED = 128,
};

struct started {
	__u32 kind;
	__u32 netns;
	__u64 time;
	__u64 started;
	__u64 parent_started;
	__u64 cgroup;
	__u32 pid;
	__u32 parent;
	__u32 uid;
	__u32 euid;
	__u32 gid;
	__u32 login_uid;
	__u32 flags;
	__u32 args_total; // how long the arguments really are
	__u16 image_bytes;
	__u16 directory_bytes;
	__u16 filename_bytes;
	__u16 args_bytes;
	// How much of `data` is used. It is kept here, in memory whose content the verifier does not
	// follow, and read anew at each use: in a variable, the verifier tries each of its values at each
	// step of a loop and gives up after a million instructions.
	volatile __u32 used;
	__u32 spare;
	char comm[16];
	// image, directory: their names from the leaf up to the root, each with its NUL;
	// then the file name as given to execve, with its NUL; then the arguments, each with its NUL.
	__u8 data[3 * PATH_BYTES + ARGS_BYTES];
};
#define HEAD_BYTES __builtin_offsetof(struct started, data)

// Records are put together here, as a stack of 512 bytes is too small. One program alone uses it,
// and a program never runs twice at once on one processor.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct started);
} scratch SEC(".maps");

enum { OUTGOING = 1, INCOMING = 2, LISTENING = 3 };

struct connection {
	__u32 kind;
	__u32 netns;
	__u64 time;
	__u64 started;
	__u32 pid;
	__u32 uid;
	__u16 what;
	__u16 family;
	__u16 local_port;
	__u16 remote_port;
	__u32 local[4];
	__u32 remote[4];
	char comm[16];
};

INLINE bool is_wanted(__u32 netns)
{
	return only_netns == 0 || only_netns == netns;
}

#define PID_LEVELS 32 // MAX_PID_NS_LEVEL: PID namespaces in each other

// The number of a process in the reader's PID namespace; 0 if it is not there. A process has a number in
// its own namespace and in each around it, the outermost first.
INLINE __u32 number_of(struct task_struct *task)
{
	if (own_pidns == 0)
		return task->tgid;
	struct task_struct *leader = 0;
	struct pid *pid = 0;
	__u32 deepest = 0;
	READ(leader, task, group_leader);
	READ(pid, leader, thread_pid);
	READ(deepest, pid, level);
	const void *numbers = (const void *)pid + OFFSET(pid->numbers);
	for (__u32 level = 1; level <= PID_LEVELS; level++) {
		if (level > deepest)
			break;
		const struct upid *number = numbers + level * SIZE(struct upid);
		struct pid_namespace *ns = 0;
		__u32 inum = 0;
		READ(ns, number, ns);
		READ(inum, ns, ns.inum);
		if (inum == own_pidns) {
			int nr = 0;
			READ(nr, number, nr);
			return nr;
		}
	}
	return 0;
}

// Whether `task` is to be told of; with its network namespace, and its number for the reader.
INLINE bool is_told(struct task_struct *task, __u32 *netns, __u32 *number)
{
	*netns = task->nsproxy->net_ns->ns.inum;
	if (!is_wanted(*netns))
		return false;
	*number = number_of(task);
	return *number != 0;
}

// Records that nobody acts on at once (forks, exits) leave the reader asleep until much is waiting;
// it then finds them before the next one that does wake it. The others always wake it: the ring's
// own rule, "wake if the reader has caught up", would miss it behind a record that did not.
INLINE void put(void *record, __u64 bytes, bool is_urgent)
{
	__u64 wake = BPF_RB_FORCE_WAKEUP;
	if (!is_urgent && bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) < wake_at_bytes)
		wake = BPF_RB_NO_WAKEUP;
	if (bpf_ringbuf_output(&ring, record, bytes, wake) == 0)
		return;
	__u32 zero = 0;
	__u64 *count = bpf_map_lookup_elem(&lost, &zero);
	if (count)
		__sync_fetch_and_add(count, 1);
}

SEC("tp_btf/sched_process_fork")
int on_fork(__u64 *arguments)
{
	struct task_struct *parent = (void *)arguments[0];
	struct task_struct *child = (void *)arguments[1];
	if (child->pid != child->tgid)
		return 0; // a thread
	__u32 netns, number;
	if (!is_told(child, &netns, &number))
		return 0;
	struct forked record = {
		.kind = FORKED,
		.netns = netns,
		.time = bpf_ktime_get_boot_ns(),
		.started = child->start_boottime,
		.parent_started = parent->group_leader->start_boottime,
		.pid = number,
		.parent = number_of(parent),
	};
	put(&record, sizeof(record), false);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int on_exit(__u64 *arguments)
{
	struct task_struct *task = (void *)arguments[0];
	if (task->signal->live.counter > 0)
		return 0; // other threads of this process go on
	__u32 netns, number;
	if (!is_told(task, &netns, &number))
		return 0;
	struct exited record = {
		.kind = EXITED,
		.netns = netns,
		.time = bpf_ktime_get_boot_ns(),
		.started = task->group_leader->start_boottime,
		.pid = number,
		.code = task->exit_code,
	};
	put(&record, sizeof(record), false);
	return 0;
}

// Appends the names of `path`, leaf first; `limit` is where they must end, and `cut` the flag that
// says that they did not fit (the two above it are "deleted" and "detached", for both paths alike).
// `bpf_d_path` would do this, but the kernel allows it only in programs on a few functions, none of
// which is ours.
static __attribute__((noinline)) int append_path(struct started *record, struct path *path,
						 __u32 limit, __u32 cut)
{
	struct dentry *dentry = 0;
	struct dentry *above = 0;
	struct vfsmount *vfsmount = 0;
	struct hlist_bl_node **hashed = 0;
	READ(dentry, path, dentry);
	READ(vfsmount, path, mnt);
	struct mount *mount = (void *)vfsmount - OFFSET(((struct mount *)0)->mnt);
	READ(hashed, dentry, d_hash.pprev);
	READ(above, dentry, d_parent);
	if (!hashed && dentry != above)
		record->flags |= cut << 1;

	for (int step = 0; step < PATH_STEPS; step++) {
		struct dentry *root = 0;
		READ(root, mount, mnt.mnt_root);
		if (dentry == root) {
			struct mount *outer = 0;
			READ(outer, mount, mnt_parent);
			if (outer == mount)
				return 0; // the root of all mounts
			READ(dentry, mount, mnt_mountpoint);
			mount = outer;
			continue;
		}
		const unsigned char *name = 0;
		READ(name, dentry, d_name.name);
		__u32 at = record->used;
		if (at > limit - NAME_BYTES || at > 2 * PATH_BYTES - NAME_BYTES)
			break;
		long bytes = bpf_probe_read_kernel_str(&record->data[at], NAME_BYTES, name);
		if (bytes <= 0)
			break;
		record->used = at + bytes;
		READ(above, dentry, d_parent);
		if (above == dentry) {
			record->flags |= cut << 2;
			return 0;
		}
		dentry = above;
	}
	record->flags |= cut;
	return 0;
}

SEC("tp_btf/sched_process_exec")
int on_exec(__u64 *arguments)
{
	struct task_struct *task = (void *)arguments[0];
	struct linux_binprm *program = (void *)arguments[2];
	__u32 netns, number;
	if (!is_told(task, &netns, &number))
		return 0;
	__u32 zero = 0;
	struct started *record = bpf_map_lookup_elem(&scratch, &zero);
	if (!record)
		return 0;

	record->kind = STARTED;
	record->netns = netns;
	record->time = bpf_ktime_get_boot_ns();
	record->started = task->start_boottime;
	record->parent_started = task->real_parent->group_leader->start_boottime;
	record->cgroup = task->cgroups->dfl_cgrp->kn->id;
	record->pid = number;
	record->parent = number_of(task->real_parent);
	record->uid = task->cred->uid.val;
	record->euid = task->cred->euid.val;
	record->gid = task->cred->gid.val;
	record->login_uid = EXISTS(task->loginuid) ? task->loginuid.val : (__u32)-1;
	record->flags = 0;
	bpf_get_current_comm(record->comm, sizeof(record->comm));

	struct mm_struct *mm = task->mm;
	record->used = 0;
	append_path(record, &mm->exe_file->f_path, PATH_BYTES, IMAGE_CUT);
	__u32 at = record->used;
	record->image_bytes = at;
	append_path(record, &task->fs->pwd, 2 * PATH_BYTES, DIRECTORY_CUT);
	record->directory_bytes = record->used - at;

	record->filename_bytes = 0;
	at = record->used;
	if (at <= 2 * PATH_BYTES) {
		long bytes = bpf_probe_read_kernel_str(&record->data[at], PATH_BYTES, program->filename);
		if (bytes > 0) {
			record->filename_bytes = bytes;
			record->used = at + bytes;
		}
	}

	__u64 from = mm->arg_start;
	__u64 total = mm->arg_end - from;
	record->args_total = total;
	__u32 bytes = total;
	if (total > ARGS_BYTES) {
		bytes = ARGS_BYTES;
		record->flags |= ARGS_CUT;
	}
	record->args_bytes = 0;
	at = record->used;
	if (at <= 3 * PATH_BYTES && bytes <= ARGS_BYTES) {
		if (bpf_probe_read_user(&record->data[at], bytes, (void *)from) == 0) {
			record->args_bytes = bytes;
			record->used = at + bytes;
		} else {
			record->flags |= ARGS_UNREADABLE;
		}
	}
	at = record->used;
	if (at <= sizeof(record->data))
		put(record, HEAD_BYTES + at, true);
	return 0;
}

enum { TCP_ESTABLISHED = 1, TCP_SYN_SENT = 2, TCP_SYN_RECV = 3, TCP_LISTEN = 10 };
enum { AF_INET = 2, AF_INET6 = 10, IPPROTO_TCP = 6 };

SEC("tp_btf/inet_sock_set_state")
int on_tcp_state(__u64 *arguments)
{
	struct sock *socket = (void *)arguments[0];
	int before = arguments[1];
	int after = arguments[2];
	__u16 what;
	if (after == TCP_SYN_SENT)
		what = OUTGOING;
	else if (before == TCP_SYN_RECV && after == TCP_ESTABLISHED)
		what = INCOMING;
	else if (after == TCP_LISTEN)
		what = LISTENING;
	else
		return 0;
	__u32 netns = socket->__sk_common.skc_net.net->ns.inum;
	if (!is_wanted(netns) || socket->sk_protocol != IPPROTO_TCP)
		return 0;

	struct connection record = {
		.kind = CONNECTION,
		.netns = netns,
		.time = bpf_ktime_get_boot_ns(),
		.uid = socket->sk_uid.val,
		.what = what,
		.family = socket->__sk_common.skc_family,
		.local_port = socket->__sk_common.skc_num,
		.remote_port = __builtin_bswap16(socket->__sk_common.skc_dport),
	};
	// An incoming connection is finished by whichever process the packet happened to interrupt:
	// the reader knows the listener by its port.
	if (what != INCOMING) {
		struct task_struct *task = (void *)bpf_get_current_task();
		struct task_struct *leader = 0;
		READ(leader, task, group_leader);
		READ(record.started, leader, start_boottime);
		record.pid = own_pidns == 0 ? bpf_get_current_pid_tgid() >> 32 : number_of(task);
		if (own_pidns != 0 && record.pid == 0)
			return 0;
		bpf_get_current_comm(record.comm, sizeof(record.comm));
	}
	struct sock_common *ends = &socket->__sk_common;
	if (record.family == AF_INET6) {
		READ(record.local, ends, skc_v6_rcv_saddr);
		READ(record.remote, ends, skc_v6_daddr);
		// IPv4 through an IPv6 socket: only the IPv4 fields are complete at this moment.
		if (record.remote[0] == 0 && record.remote[1] == 0 &&
		    record.remote[2] == __builtin_bswap32(0xffff))
			record.family = AF_INET;
	}
	if (record.family == AF_INET) {
		record.local[0] = ends->skc_rcv_saddr;
		record.remote[0] = ends->skc_daddr;
	}
	put(&record, sizeof(record), true);
	return 0;
}
