//! The API's Unix socket: reachable by our own user only, and never by accident a second one's.
//!
//! It must not be open to others even for a moment, and binding gives it the umask's permissions. So it is bound inside
//! a fresh directory of mode 0700, given its mode 0600, and only then renamed to its place. Renaming also replaces the
//! socket of a process that was killed; one that still answers is left alone.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};

use crate::io::rng;

/// A listening socket whose file goes away with it.
#[derive(Debug)]
pub struct SocketFile {
    listener: UnixListener,
    path: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum SocketFileError {
    #[error("another ixgate is running: it answers at {}; stop it first, or give this one its own `api.listen`", .0.display())]
    Alive(PathBuf),
    #[error("{} exists and is no socket; move it away, or change `api.listen`", .0.display())]
    NotASocket(PathBuf),
    #[error("cannot open the API socket {}: {source}; its folder must be one that the user who runs ixgate may write to: change that, or `api.listen`", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl SocketFile {
    /// Creates the directory (mode 0700) when it is missing.
    pub fn listen(path: &Path) -> Result<Self, SocketFileError> {
        let fail = |source| SocketFileError::Io { path: path.to_owned(), source };
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(fail)?;
        refuse_unless_stale(path)?;
        let listener = bind_and_place(directory, path).map_err(fail)?;
        listener.set_nonblocking(true).map_err(fail)?;
        Ok(SocketFile { listener, path: path.to_owned() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// For the server; the file stays until `self` goes.
    pub fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may be gone already, with its directory.
        let _ = fs::remove_file(&self.path);
    }
}

fn refuse_unless_stale(path: &Path) -> Result<(), SocketFileError> {
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(_) => return Ok(()),
    };
    if !kind.is_socket() {
        return Err(SocketFileError::NotASocket(path.to_owned()));
    }
    match probe(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        // A socket of the other type (EPROTOTYPE) or of a foreign owner (PermissionDenied) is somebody too.
        _ => Err(SocketFileError::Alive(path.to_owned())),
    }
}

/// Whether some process still has the socket at `path`: "connection refused" when none does (unix(7)). Asked with a
/// datagram socket, because connecting a stream waits for ever once the backlog of a stopped process is full, and
/// leaves a connection for its owner to accept otherwise.
fn probe(path: &Path) -> io::Result<()> {
    UnixDatagram::unbound()?.connect(path)
}

fn bind_and_place(directory: &Path, path: &Path) -> io::Result<UnixListener> {
    let nursery = directory.join(format!(".{:08x}", rng::u64() as u32));
    DirBuilder::new().mode(0o700).create(&nursery)?;
    let result = bind_in(&nursery, path);
    // Empty when it worked; otherwise what is left of the attempt.
    let _ = fs::remove_dir_all(&nursery);
    result
}

fn bind_in(nursery: &Path, path: &Path) -> io::Result<UnixListener> {
    let newborn = nursery.join("s");
    let listener = UnixListener::bind(&newborn)?;
    fs::set_permissions(&newborn, Permissions::from_mode(0o600))?;
    fs::rename(&newborn, path)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_our_user_may_use_it_and_it_goes_away_with_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state/ixgate.sock");
        let socket = SocketFile::listen(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else is left there");
        UnixStream::connect(&path).unwrap();
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn the_socket_of_a_dead_process_is_replaced_and_of_a_living_one_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ixgate.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "stale");
        let living = SocketFile::listen(&path).unwrap();
        let error = SocketFile::listen(&path).unwrap_err();
        assert!(matches!(error, SocketFileError::Alive(_)), "{error}");
        assert!(error.to_string().contains("another ixgate is running"));
        UnixStream::connect(living.path()).unwrap();
    }

    #[test]
    fn an_instance_that_accepts_nothing_any_more_is_alive_and_does_not_hold_us_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ixgate.sock");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let _entered = runtime.enter();
        let stopped = tokio::net::UnixSocket::new_stream().unwrap();
        stopped.bind(&path).unwrap();
        let _listener = stopped.listen(1).unwrap();
        let _waiting = [UnixStream::connect(&path).unwrap(), UnixStream::connect(&path).unwrap()];
        let full = runtime.block_on(tokio::net::UnixStream::connect(&path)).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock, "the backlog is full");

        let (answer, answers) = mpsc::channel();
        std::thread::spawn(move || answer.send(SocketFile::listen(&path)));
        let result = answers.recv_timeout(Duration::from_secs(10)).expect("an answer, although nobody accepts");
        assert!(matches!(result, Err(SocketFileError::Alive(_))), "{result:?}");
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notes.txt");
        fs::write(&path, "mine").unwrap();
        assert!(matches!(SocketFile::listen(&path), Err(SocketFileError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        let error = SocketFile::listen(&path.join("below")).unwrap_err();
        assert!(error.to_string().contains("cannot open the API socket"), "{error}");
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_refused_and_nothing_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let long = directory.path().join("x".repeat(100));
        assert!(matches!(SocketFile::listen(&long.join("ixgate.sock")), Err(SocketFileError::Io { .. })));
        assert_eq!(fs::read_dir(&long).unwrap().count(), 0);
    }
}
