//! Where the running kernel keeps the fields that the programs read.
//!
//! Rust cannot emit CO-RE relocations yet, so user space reads `/sys/kernel/btf/vmlinux` and passes
//! byte offsets in as a read-only global: the verifier sees constants.

/// Declares the layout struct once, and the table that finds each field in BTF.
macro_rules! kernel_layout {
    ($($(#[$doc:meta])* $field:ident: $type_:literal . $($path:literal)|+ ;)*) => {
        /// Byte offsets of kernel fields.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct KernelLayout { $($(#[$doc])* pub $field: u32,)* }

        impl KernelLayout {
            /// All zero: what stands in the object before user space sets it.
            pub const ZERO: Self = Self { $($field: 0,)* };

            /// Each field: the kernel's struct, the paths under which kernels have had the member
            /// (the first that exists counts), and where its offset goes.
            #[cfg(not(target_arch = "bpf"))]
            pub const FIELDS: &'static [(&'static str, &'static [&'static str], fn(&mut Self) -> &mut u32)] =
                &[$(($type_, &[$($path),+], |layout| &mut layout.$field)),*];
        }
    };
}

/// The offset of a member that this kernel does not have and rprof can do without.
pub const ABSENT: u32 = u32::MAX;

/// Bytes of the struct `vm_area_struct` that are read at once: all fields of the layout lie in them.
pub const VMA_BYTES: usize = 256;

kernel_layout! {
    /// `task_struct.mm`
    task_mm: "task_struct"."mm";
    /// `task_struct.flags`
    task_flags: "task_struct"."flags";
    /// `task_struct.pid`
    task_pid: "task_struct"."pid";
    /// `task_struct.tgid`
    task_tgid: "task_struct"."tgid";
    /// `task_struct.group_leader`
    task_group_leader: "task_struct"."group_leader";
    /// `task_struct.real_parent`
    task_real_parent: "task_struct"."real_parent";
    /// `task_struct.start_boottime` (5.5)
    task_start: "task_struct"."start_boottime";
    /// `task_struct.self_exec_id`
    task_exec_id: "task_struct"."self_exec_id";
    /// `task_struct.comm`
    task_comm: "task_struct"."comm";
    /// `task_struct.thread_pid`
    task_thread_pid: "task_struct"."thread_pid";
    /// `task_struct.thread.fsbase`: the TLS base
    task_fsbase: "task_struct"."thread.fsbase";
    /// `task_struct.pid_links`
    task_pid_links: "task_struct"."pid_links";
    /// `task_struct.files`
    task_files: "task_struct"."files";
    /// `files_struct.fdt`
    files_fdt: "files_struct"."fdt";
    /// `fdtable.fd`
    fdtable_fd: "fdtable"."fd";
    /// `task_struct.nsproxy`; null in a task that is ending
    task_nsproxy: "task_struct"."nsproxy";
    /// `nsproxy.mnt_ns`
    nsproxy_mnt: "nsproxy"."mnt_ns";
    /// `mnt_namespace.ns.inum`
    mntns_inum: "mnt_namespace"."ns.inum";
    /// `pid.tasks`
    pid_tasks: "pid"."tasks";
    /// `pid.level`
    pid_level: "pid"."level";
    /// `pid.numbers`
    pid_numbers: "pid"."numbers";
    /// `upid.nr`
    upid_nr: "upid"."nr";
    /// `upid.ns`
    upid_ns: "upid"."ns";
    /// `pid_namespace.ns.inum`
    pidns_inum: "pid_namespace"."ns.inum";
    /// `mm_struct.mm_mt.ma_root` (6.1)
    mm_root: "mm_struct"."mm_mt.ma_root";
    /// `mm_struct.mm_lock_seq`, where it is a sequence count (6.12)
    mm_lock_seq: "mm_struct"."mm_lock_seq.sequence";
    /// `mm_struct.start_code`: 0 until an `exec` is done
    mm_start_code: "mm_struct"."start_code";
    /// `mm_struct.context.vdso`
    mm_vdso: "mm_struct"."context.vdso";
    /// `vm_area_struct.vm_start`
    vma_start: "vm_area_struct"."vm_start";
    /// `vm_area_struct.vm_end`
    vma_end: "vm_area_struct"."vm_end";
    /// `vm_area_struct.vm_mm`
    vma_mm: "vm_area_struct"."vm_mm";
    /// `vm_area_struct.vm_flags`
    vma_flags: "vm_area_struct"."vm_flags" | "__vm_flags";
    /// `vm_area_struct.vm_pgoff`, pages
    vma_pgoff: "vm_area_struct"."vm_pgoff";
    /// `vm_area_struct.vm_file`
    vma_file: "vm_area_struct"."vm_file";
    /// `file.f_inode`
    file_inode: "file"."f_inode";
    /// `file.f_mapping`
    file_mapping: "file"."f_mapping";
    /// `address_space.i_mmap_rwsem.owner`: who changes mappings of the file
    mapping_lock_owner: "address_space"."i_mmap_rwsem.owner";
    /// `file.private_data`
    file_private: "file"."private_data";
    /// `file.f_path.mnt`
    file_mnt: "file"."f_path.mnt";
    /// `file.f_path.dentry`
    file_dentry: "file"."f_path.dentry";
    /// `inode.i_private`
    inode_private: "inode"."i_private";
    /// `inode.i_sb`
    inode_sb: "inode"."i_sb";
    /// `inode.i_ino`
    inode_ino: "inode"."i_ino";
    /// `inode.i_size`
    inode_size: "inode"."i_size";
    /// `inode.i_generation`
    inode_generation: "inode"."i_generation";
    /// `inode.i_ctime` seconds (named `__i_ctime` in 6.6, `i_ctime_sec` since 6.11)
    inode_ctime_sec: "inode"."i_ctime_sec" | "__i_ctime.tv_sec" | "i_ctime.tv_sec";
    /// `inode.i_ctime` nanoseconds
    inode_ctime_nsec: "inode"."i_ctime_nsec" | "__i_ctime.tv_nsec" | "i_ctime.tv_nsec";
    /// `super_block.s_dev`
    sb_dev: "super_block"."s_dev";
    /// `dentry.d_parent`
    dentry_parent: "dentry"."d_parent";
    /// `dentry.d_name` (a `qstr`: hash and length in one word, then the name's address)
    dentry_name: "dentry"."d_name";
    /// `mount.mnt_parent`
    mount_parent: "mount"."mnt_parent";
    /// `mount.mnt_mountpoint`
    mount_mountpoint: "mount"."mnt_mountpoint";
    /// `mount.mnt` (`file.f_path.mnt` points to it)
    mount_mnt: "mount"."mnt";
    /// `vfsmount.mnt_root`
    vfsmount_root: "vfsmount"."mnt_root";
}
