//! Looking at listeners without walking the host's tables.
//!
//! A listener is given an entry in a socket storage map of its service, and an iterator visits
//! these entries and nothing else ([`bpf_iter_init_sk_storage_map`], 5.9 to 7.3), in whatever network
//! namespace they are. `/proc/net/tcp` goes on into the established connections of all of them.
//!
//! [`bpf_iter_init_sk_storage_map`]: https://elixir.bootlin.com/linux/v6.12/source/net/core/bpf_sk_storage.c

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use aya::{
    Btf,
    maps::{MapData, SkStorage},
    programs::{Iter, ProgramError},
};
use synflip_abi::{Field, LISTENERS, Looked, VERSION};

use crate::{BpfError, Object, bpffs, object::typed, sys, types::Types};

/// The iterator's name in the object.
const PROGRAM: &str = "look";
/// What it iterates over.
const TARGET: &str = "bpf_sk_storage_map";
/// The kernel writes no more at once (`bpf_seq_read`, 5.10 to 7.3).
const CHUNK: usize = 32 << 10;

/// Where the fields are, by structure.
const FIELDS: [(Field, &str, &str); Field::COUNT - 1] = [
    (Field::Refcnt, "sock", "__sk_common.skc_refcnt"),
    (Field::State, "sock", "__sk_common.skc_state"),
    (Field::Cookie, "sock", "__sk_common.skc_cookie"),
    (Field::Queued, "sock", "sk_ack_backlog"),
    (Field::MaxQueued, "sock", "sk_max_ack_backlog"),
    (Field::UserData, "sock", "sk_user_data"),
    (Field::Group, "sock", "sk_reuseport_cb"),
    (Field::Socket, "sock", "sk_socket"),
    (Field::HalfOpen, CONNECTION, "icsk_accept_queue.qlen"),
    (
        Field::FastOpen,
        CONNECTION,
        "icsk_accept_queue.fastopenq.qlen",
    ),
    (
        Field::Head,
        CONNECTION,
        "icsk_accept_queue.rskq_accept_head",
    ),
    (Field::ReceivedIsn, "tcp_request_sock", "rcv_isn"),
    (Field::SentIsn, "tcp_request_sock", "snt_isn"),
    (Field::Members, "sock_reuseport", "num_socks"),
    (Field::Program, "sock_reuseport", "prog"),
    (Field::Aux, "bpf_prog", "aux"),
    (Field::Id, "bpf_prog_aux", "id"),
    (Field::File, "socket", "file"),
];
const CONNECTION: &str = "inet_connection_sock";

/// Where this kernel has what the iterator reads.
pub(crate) struct Layout {
    pub(crate) offsets: [u32; Field::COUNT],
    pub(crate) file_count_from: u32,
}

impl Layout {
    /// Finds it out, once.
    fn of_kernel() -> Result<&'static Self, BpfError> {
        static FOUND: OnceLock<Layout> = OnceLock::new();
        if let Some(found) = FOUND.get() {
            return Ok(found);
        }
        let types = Types::of_kernel().map_err(failed("reading the kernel's types for"))?;
        let mut offsets = [Field::ABSENT; Field::COUNT];
        for (field, structure, path) in FIELDS {
            let offset = types.offset(structure, path);
            offsets[field as usize] = offset.ok_or(BpfError::NoField { structure, path })?;
        }
        // 6.13 counts from -1: `file_ref_init` (include/linux/file_ref.h).
        let (count, from) = match types.offset("file", "f_count") {
            Some(count) => (Some(count), 0),
            None => (types.offset("file", "f_ref.refcnt"), 1),
        };
        offsets[Field::FileCount as usize] = count.unwrap_or(Field::ABSENT);
        Ok(FOUND.get_or_init(|| Self {
            offsets,
            file_count_from: from,
        }))
    }
}

/// The iterator, loaded: it looks at the listeners of any service.
#[derive(Debug)]
pub struct Looker {
    program: OwnedFd,
}

impl Looker {
    /// Loads it and pins it, for an agent to come that may not load it: that takes CAP_PERFMON, all
    /// else that is done with it only CAP_BPF. If it cannot be loaded it is taken from there.
    ///
    /// # Errors
    /// When it can be had in neither way: without CAP_PERFMON, or on a kernel that does not show its
    /// types (CONFIG_DEBUG_INFO_BTF).
    pub fn open(bpffs: &Path, object: &Object) -> Result<Self, BpfError> {
        let pin = pin(bpffs);
        match Self::load(object) {
            Ok(looker) => {
                // Only a restart with fewer privileges would miss it.
                drop(looker.pin(&pin));
                Ok(looker)
            }
            Err(refused) => match sys::open_pinned(&pin) {
                Ok(program) => Ok(Self { program }),
                Err(_not_pinned) => Err(refused),
            },
        }
    }

    /// Loads it.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn load(object: &Object) -> Result<Self, BpfError> {
        let layout = Layout::of_kernel()?;
        let loaded = object.open_iterator(layout).and_then(|mut ebpf| {
            let refused = |source| BpfError::Program {
                name: PROGRAM,
                source: Box::new(source),
            };
            let program = ebpf.program_mut(PROGRAM);
            let program = program.ok_or(BpfError::Foreign { name: PROGRAM })?;
            let program: &mut Iter = program.try_into().map_err(refused)?;
            let types = Btf::from_sys_fs().map_err(|error| refused(ProgramError::Btf(error)))?;
            program.load(TARGET, &types).map_err(refused)?;
            let program = program.fd().map_err(refused)?.as_fd();
            program.try_clone_to_owned().map_err(failed("keeping"))
        });
        sys::trim_heap();
        Ok(Self { program: loaded? })
    }

    fn pin(&self, path: &Path) -> io::Result<()> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => sys::pin(self.program.as_fd(), path),
        }
    }

    /// Prepares looking at the listeners of the service that has its pins here.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn of_service(&self, pins: &Path) -> Result<Listeners, BpfError> {
        let map = MapData::from_pin(pins.join(LISTENERS));
        let map = map.map_err(BpfError::map("opening", LISTENERS))?;
        let link = sys::link_iterator(self.program.as_fd(), map.fd().as_fd());
        let link = link.map_err(failed("attaching"))?;
        let map = typed(map, LISTENERS)?;
        Ok(Listeners { map, link })
    }
}

/// The listeners of a service that can be looked at.
#[derive(Debug)]
pub struct Listeners {
    map: SkStorage<MapData, u32>,
    link: OwnedFd,
}

impl Listeners {
    /// Has a listener be looked at, until it is closed; it may be one already that is.
    ///
    /// # Errors
    /// When the kernel has no memory for it, or has given the socket all that it may have
    /// (`net.core.optmem_max`).
    pub fn add(&mut self, listener: BorrowedFd<'_>) -> Result<(), BpfError> {
        let added = self.map.insert(&listener, 0, 0);
        added.map_err(BpfError::map("adding to", LISTENERS))
    }

    /// Has a listener be looked at no more.
    pub fn remove(&mut self, listener: BorrowedFd<'_>) {
        // It may never have been added.
        drop(self.map.remove(&listener));
    }

    /// Looks at all that were added and are open, in no order.
    ///
    /// One may be left out if another one was closed meanwhile.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn look(&self) -> Result<Vec<Looked>, BpfError> {
        let walk = sys::open_iterator(self.link.as_fd()).map_err(failed("beginning"))?;
        let mut walk = File::from(walk);
        let (mut read, mut chunk) = (Vec::new(), vec![0; CHUNK]);
        loop {
            match walk.read(&mut chunk) {
                Ok(0) => break,
                Ok(length) => read.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed("reading")(error)),
            }
        }
        let (words, _) = read.as_chunks::<8>();
        let words: Vec<u64> = words.iter().map(|word| u64::from_ne_bytes(*word)).collect();
        let (records, _) = words.as_chunks::<{ Looked::WORDS }>();
        Ok(records.iter().map(Looked::unpack).collect())
    }
}

/// Where the iterator is pinned: beside the directories of the versions, which have services only.
fn pin(bpffs: &Path) -> PathBuf {
    bpffs::all(bpffs).join(format!("look-{VERSION}"))
}

fn failed(op: &'static str) -> impl FnOnce(io::Error) -> BpfError {
    move |source| BpfError::Look { op, source }
}
