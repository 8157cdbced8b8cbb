//! The files, ports and processes that a command is kept away from by Landlock.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};

use super::{Containment, Reach};

/// The newest rights that mean here what they should: devices keep their ioctl, which GPUs are driven by.
const WRITING: ABI = ABI::V4;
/// Folders of devices, and of what these need in memory.
const DEVICE_FOLDERS: [&str; 5] =
    ["/dev/pts", "/dev/dri", "/dev/accel", "/dev/nvidia-caps", "/dev/nvidia-caps-imex-channels"];
/// The memory itself is no device that a command needs.
const NEVER_DEVICES: [&str; 4] = ["/dev/mem", "/dev/kmem", "/dev/port", "/dev/kmsg"];
/// Sockets that the GPU's driver is spoken to by.
const DEVICE_SOCKETS: [&str; 2] = ["/run/nvidia-persistenced", "/tmp/nvidia-mps"];
/// Memory that processes share; semaphores and queues live there too.
const SHARED_MEMORY: &str = "/dev/shm";

/// Takes files, TCP ports, signals and abstract sockets away from the calling thread, as far as this kernel can.
pub(super) fn apply(containment: &Containment) -> io::Result<()> {
    rules(containment).map_err(|error| io::Error::other(format!("Landlock refuses its rules: {error}")))
}

/// The version of Landlock's interface here; 0 when there is none. The calling thread opens no file any more.
pub(super) fn version() -> u32 {
    let ruleset = Ruleset::default().handle_access(AccessFs::from_all(ABI::V1));
    let restricted = ruleset.and_then(Ruleset::create).and_then(RulesetCreated::restrict_self);
    match restricted.map(|status| status.landlock) {
        Ok(LandlockStatus::Available { effective_abi, .. }) => effective_abi as u32,
        Ok(LandlockStatus::NotEnabled | LandlockStatus::NotImplemented) | Err(_) => 0,
    }
}

fn rules(containment: &Containment) -> Result<(), RulesetError> {
    let reading: BitFlags<AccessFs> = AccessFs::ReadFile.into();
    let writing = AccessFs::from_write(WRITING);
    let created = Ruleset::default()
        .handle_access(reading | writing | AccessFs::ResolveUnix)?
        .handle_access(AccessNet::from_all(ABI::V4))?
        .scope(Scope::from_all(ABI::V6))?
        .create()?;
    let mut created = created;
    let mut allow = |path: &Path, rights: BitFlags<AccessFs>| {
        // What is gone meanwhile or cannot be reached needs no rule.
        let Ok(opened) = PathFd::new(path) else { return Ok(()) };
        let rights = if path.is_dir() { rights } else { rights & AccessFs::from_file(ABI::V9) };
        (&mut created).add_rule(PathBeneath::new(opened, rights)).map(|_| ())
    };
    let closed = canonical(&containment.closed);
    for path in open(Path::new("/"), &closed) {
        allow(&path, reading)?;
    }
    for path in canonical(&containment.readable) {
        // What is closed itself is opened; what is closed in it stays so, such as settings beside a description.
        let closed: Vec<PathBuf> = closed.iter().filter(|closed| **closed != path).cloned().collect();
        for path in open(&path, &closed) {
            allow(&path, reading)?;
        }
    }
    allow(&containment.writable, reading | writing | AccessFs::ResolveUnix)?;
    allow(Path::new(SHARED_MEMORY), reading | writing)?;
    for device in devices() {
        allow(&device, AccessFs::WriteFile | AccessFs::Truncate)?;
    }
    for socket in DEVICE_SOCKETS {
        allow(Path::new(socket), AccessFs::ResolveUnix.into())?;
    }
    if let Reach::Proxy(port) = containment.reach {
        created = created.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
    }
    created.restrict_self().map(|_| ())
}

/// Everything below a folder but what is closed. Rules only open, and open all that is below; so on the way to what
/// is closed, what lies beside the way is opened one by one.
fn open(folder: &Path, closed: &[PathBuf]) -> Vec<PathBuf> {
    if !closed.iter().any(|path| path.starts_with(folder)) {
        return vec![folder.to_owned()];
    }
    if closed.iter().any(|path| path == folder) {
        return Vec::new();
    }
    below(folder, closed).iter().flat_map(|path| open(path, closed)).collect()
}

/// What a folder holds, but links. Of one that cannot be listed, only what leads to something closed is known; the
/// rest stays closed.
fn below(folder: &Path, closed: &[PathBuf]) -> BTreeSet<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        let rest = closed.iter().filter_map(|path| path.strip_prefix(folder).ok()?.components().next());
        return rest.map(|name| folder.join(name)).collect();
    };
    // A link is opened by where it leads to: that may be what is closed, or the way there.
    let entries = entries.flatten();
    let entries = entries.filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_symlink()));
    entries.map(|entry| entry.path()).collect()
}

/// The folders on the way to what is closed that cannot be listed, so that commands read nothing beside that way.
pub(super) fn unlisted(closed: &[PathBuf]) -> BTreeSet<PathBuf> {
    let closed = canonical(closed);
    let on_the_way = closed.iter().flat_map(|path| path.ancestors().skip(1));
    on_the_way.filter(|folder| fs::read_dir(folder).is_err()).map(Path::to_owned).collect()
}

/// The places themselves, without links on the way. What is not there needs not be closed.
fn canonical(paths: &[PathBuf]) -> Vec<PathBuf> {
    paths.iter().filter_map(|path| path.canonicalize().ok()).collect()
}

/// The devices that a command may write to, such as the GPU's. Disks are none of them.
fn devices() -> Vec<PathBuf> {
    let entries = fs::read_dir("/dev").into_iter().flatten().flatten();
    let devices = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_char_device()));
    let devices = devices.map(|entry| entry.path());
    let devices = devices.filter(|path| !NEVER_DEVICES.iter().any(|never| path == Path::new(never)));
    devices.chain(DEVICE_FOLDERS.map(PathBuf::from)).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn all_is_open_but_what_is_closed_and_links() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().canonicalize().unwrap();
        for folder in ["a/b/closed/in", "a/b/open", "c", "d"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::write(root.join("c/secret"), "").unwrap();
        fs::write(root.join("c/plain"), "").unwrap();
        std::os::unix::fs::symlink(&root, root.join("a/way_back")).unwrap();
        std::os::unix::fs::symlink(root.join("c/secret"), root.join("named")).unwrap();
        let closed = canonical(&[root.join("a/b/closed"), root.join("named"), root.join("missing")]);
        let mut found = open(&root, &closed);
        found.sort();
        assert_eq!(found, [root.join("a/b/open"), root.join("c/plain"), root.join("d")]);
        assert_eq!(open(&root, &[]), [root]);
    }

    #[test]
    fn a_home_below_a_folder_that_cannot_be_listed_is_open() {
        // Root lists everything, by a capability.
        super::super::drop_capabilities().unwrap();
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().canonicalize().unwrap();
        for folder in ["homes/mine/.ssh", "homes/mine/venv", "homes/other"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        let closed = [root.join("homes/mine/.ssh")];
        assert_eq!(unlisted(&closed), BTreeSet::new());
        let permit =
            |mode| fs::set_permissions(root.join("homes"), fs::Permissions::from_mode(mode)).unwrap();
        permit(0o311);
        let (found, unlisted) = (open(&root, &closed), unlisted(&closed));
        permit(0o700);
        assert_eq!(found, [root.join("homes/mine/venv")]);
        assert_eq!(unlisted, BTreeSet::from([root.join("homes")]));
    }
}
