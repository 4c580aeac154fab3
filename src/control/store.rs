//! The state store: one redb file under `state_dir` that remembers every allocation and how it came about.
//!
//! One process writes (the appliance, or `plan --release`), any number read beside it: `plan` sees the last commit of
//! a running appliance. A commit is one transaction; a kill at any moment leaves the state before it or after it.
//! A reader never writes: it looks at a copy in memory, as closely as a start does, and recovers there what a killed appliance left behind.
//!
//! | table     | key            | value                                               |
//! |-----------|----------------|-----------------------------------------------------|
//! | `meta`    | `schema`       | version of this layout                              |
//! | `meta`    | `space6`       | prefix                                              |
//! | `realms`  | name           | JSON: number, configured                            |
//! | `aliases` | alias prefix   | JSON: viewer, owner, native prefix, state           |
//! | `audit`   | running number | JSON: wall-clock time, what changed, in words       |

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use redb::backends::InMemoryBackend;
use redb::{
    Builder, ConcurrencyMode, Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable,
    ReadableTableMetadata, StorageBackend, StorageError, TableDefinition, TableError, WriteTransaction,
};

use super::allocations::Allocations;
use super::change::Changes;

mod encode;

/// The layout that this program writes. A larger number is a newer program's.
///
/// 1: `native` of an alias is IPv4. 2: or IPv6, for who is seen under an IPv4 alias. What is in layout 1 reads as it stands;
/// the next commit writes 2, so that an older program does not take for damage what it cannot read.
const SCHEMA: u64 = 2;
/// Audit entries kept; the oldest go first.
const AUDIT_ENTRIES_MAX: u64 = 10_000;
const FILE_NAME: &str = "state.redb";
const EMPTY: &str = "the file is empty";

type Table = TableDefinition<'static, &'static str, &'static str>;

const META: Table = TableDefinition::new("meta");
const REALMS: Table = TableDefinition::new("realms");
const ALIASES: Table = TableDefinition::new("aliases");
const AUDIT: TableDefinition<u64, &str> = TableDefinition::new("audit");

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{}: another ixgate is using this state; stop it first, or give this one another ix.state_dir", path.display())]
    Held { path: PathBuf },
    /// Or what was never a state.
    #[error("{}: the state is damaged ({detail}); put back a copy of the file. Without one, move it away: all numbers and aliases are then given anew", path.display())]
    Damaged { path: PathBuf, detail: String },
    #[error("{}: the state was written by a newer ixgate (layout {found}, this one knows {SCHEMA}); run that version", path.display())]
    Newer { path: PathBuf, found: u64 },
    #[error("{}: {source}; {}", path.display(), remedy(source))]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: {source}", path.display())]
    Redb { path: PathBuf, source: Box<redb::Error> },
}

/// One line of the audit trail.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct AuditEntry {
    pub at_unix_secs: u64,
    pub event: String,
}

/// The state store, opened for writing. One per state directory.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    db: Database,
    allocations: Allocations,
}

/// What the store held at the moment of looking.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StateView {
    pub path: PathBuf,
    pub allocations: Allocations,
}

impl Store {
    /// Opens the store, creating directory (0700) and file (0600) if need be, and repairs what a kill interrupted.
    pub fn open(state_dir: &Path) -> Result<Store, StoreError> {
        let path = state_dir.join(FILE_NAME);
        let io_error = |source| StoreError::Io { path: path.clone(), source };
        create(state_dir, &path).map_err(io_error)?;
        // redb would take it for a new one, and everybody would get other addresses.
        if std::fs::metadata(&path).map_err(io_error)?.len() == 0 {
            return Err(damaged(&path, EMPTY.to_owned()));
        }
        let mut builder = builder();
        // The file is small; reading it whole at start turns damage into a sentence.
        builder.set_check_integrity_on_open(true);
        let db = builder.create(&path).map_err(|error| open_error(&path, error))?;
        let allocations = load(&path, &db)?;
        Ok(Store { path, db, allocations })
    }

    /// Looks without writing, also while an appliance is running. `None`: there is no state yet.
    pub fn open_read(state_dir: &Path) -> Result<Option<StateView>, StoreError> {
        let path = state_dir.join(FILE_NAME);
        match std::fs::metadata(&path) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::Io { path, source }),
        }
        let look = || load(&path, &copy_in_memory(&path)?);
        // An appliance may have been in the middle of a commit.
        let allocations = look().or_else(|_| look()).or_else(|_| look())?;
        Ok(Some(StateView { path, allocations }))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// As of the last commit.
    pub fn allocations(&self) -> &Allocations {
        &self.allocations
    }

    /// Makes `next` the state, with `changes` in the audit trail, in one transaction; on return it is on the disk.
    /// On an error the state is what it was. `now` is wall-clock time.
    pub fn commit(&mut self, next: &Allocations, changes: &Changes, now: SystemTime) -> Result<(), StoreError> {
        let transaction = self.db.begin_write().map_err(|error| redb_error(&self.path, error))?;
        self.write(&transaction, next, changes, now).map_err(|error| redb_error(&self.path, error))?;
        transaction.commit().map_err(|error| redb_error(&self.path, error))?;
        self.allocations = next.clone();
        Ok(())
    }

    /// The newest `limit` entries, oldest first.
    pub fn audit(&self, limit: usize) -> Result<Vec<AuditEntry>, StoreError> {
        let read = self.db.begin_read().map_err(|error| redb_error(&self.path, error))?;
        let mut entries = newest_entries(&read, limit).map_err(|error| redb_error(&self.path, error))?;
        entries.reverse();
        let decode = |text: &String| encode::audit_from(text).map_err(|detail| damaged(&self.path, detail));
        entries.iter().map(decode).collect()
    }

    fn write(
        &self,
        transaction: &WriteTransaction,
        next: &Allocations,
        changes: &Changes,
        now: SystemTime,
    ) -> Result<(), redb::Error> {
        let mut meta = encode::meta(next);
        meta.insert("schema".into(), SCHEMA.to_string());
        replace(transaction, META, &meta)?;
        replace(transaction, REALMS, &encode::realms(next))?;
        replace(transaction, ALIASES, &encode::aliases(next))?;
        append_audit(transaction, changes, now)
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_concurrency_mode(ConcurrencyMode::SingleWriter);
    builder
}

/// redb creates files as the umask says; ours must not be readable by others from the start. One without anything in it never has
/// the name.
fn create(state_dir: &Path, path: &Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(state_dir)?;
    let new = path.with_extension("new");
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    builder().create(&new).map_err(io::Error::other)?;
    std::fs::rename(&new, path)?;
    // The new name must survive a power cut as well as what is written under it.
    File::open(state_dir)?.sync_all()
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space on that filesystem",
        _ => "the state directory must be writable by the user that runs ixgate",
    }
}

/// A kill in the middle of a write leaves a file that only a writer may repair in place. A reader repairs its own copy.
fn copy_in_memory(path: &Path) -> Result<Database, StoreError> {
    let io_error = |source| StoreError::Io { path: path.to_path_buf(), source };
    let bytes = std::fs::read(path).map_err(io_error)?;
    if bytes.is_empty() {
        return Err(damaged(path, EMPTY.to_owned()));
    }
    let memory = InMemoryBackend::new();
    memory.set_len(bytes.len() as u64).map_err(io_error)?;
    memory.write(0, &bytes).map_err(io_error)?;
    let mut builder = Builder::new();
    builder.set_check_integrity_on_open(true);
    builder.create_with_backend(memory).map_err(|error| open_error(path, error))
}

fn load(path: &Path, db: &impl ReadableDatabase) -> Result<Allocations, StoreError> {
    let read = &db.begin_read().map_err(|error| redb_error(path, error))?;
    let meta = table(path, read, META)?;
    if let Some(schema) = meta.get("schema") {
        let found = schema.parse().map_err(|_| damaged(path, format!("layout {schema:?}")))?;
        if found > SCHEMA {
            return Err(StoreError::Newer { path: path.to_path_buf(), found });
        }
    }
    let (realms, aliases) = (table(path, read, REALMS)?, table(path, read, ALIASES)?);
    let image = encode::allocations_from(&meta, &realms, &aliases).map_err(|detail| damaged(path, detail))?;
    image.check().map_err(|detail| damaged(path, detail))?;
    Ok(image)
}

/// All of a table; empty when it was never written.
fn table(path: &Path, read: &ReadTransaction, table: Table) -> Result<BTreeMap<String, String>, StoreError> {
    let rows = || -> Result<_, redb::Error> {
        let table = match read.open_table(table) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(BTreeMap::new()),
            table => table?,
        };
        let mut rows = BTreeMap::new();
        for row in table.iter()? {
            let (key, value) = row?;
            rows.insert(key.value().to_string(), value.value().to_string());
        }
        Ok(rows)
    };
    rows().map_err(|error| redb_error(path, error))
}

/// Makes a table hold `rows` and nothing else, touching only what differs.
fn replace(transaction: &WriteTransaction, table: Table, rows: &BTreeMap<String, String>) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(table)?;
    table.retain(|key, _| rows.contains_key(key))?;
    for (key, value) in rows {
        if table.get(key.as_str())?.is_none_or(|old| old.value() != value) {
            table.insert(key.as_str(), value.as_str())?;
        }
    }
    Ok(())
}

fn append_audit(transaction: &WriteTransaction, changes: &Changes, now: SystemTime) -> Result<(), redb::Error> {
    let at_unix_secs = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let mut table = transaction.open_table(AUDIT)?;
    let next = table.last()?.map_or(0, |(key, _)| key.value() + 1);
    for (number, change) in (next..).zip(changes) {
        let entry = AuditEntry { at_unix_secs, event: change.to_string() };
        table.insert(number, encode::audit(&entry).as_str())?;
    }
    while table.len()? > AUDIT_ENTRIES_MAX {
        table.pop_first()?;
    }
    Ok(())
}

/// Newest first.
fn newest_entries(read: &ReadTransaction, limit: usize) -> Result<Vec<String>, redb::Error> {
    let table = match read.open_table(AUDIT) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        table => table?,
    };
    let newest = table.iter()?.rev().take(limit);
    newest.map(|row| Ok(row?.1.value().to_string())).collect()
}

fn open_error(path: &Path, error: DatabaseError) -> StoreError {
    let path = path.to_path_buf();
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => StoreError::Held { path },
        DatabaseError::UpgradeRequired(version) => {
            StoreError::Damaged { path, detail: format!("file format {version} is not known") }
        }
        // redb says "invalid data" of a file that was never its own.
        DatabaseError::Storage(StorageError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
            StoreError::Damaged { path, detail: error.to_string() }
        }
        error => redb_error(&path, error),
    }
}

fn redb_error(path: &Path, error: impl Into<redb::Error>) -> StoreError {
    let path = path.to_path_buf();
    match error.into() {
        redb::Error::Corrupted(detail) => StoreError::Damaged { path, detail },
        redb::Error::Io(source) => StoreError::Io { path, source },
        error => StoreError::Redb { path, source: Box::new(error) },
    }
}

fn damaged(path: &Path, detail: String) -> StoreError {
    StoreError::Damaged { path: path.to_path_buf(), detail }
}

#[cfg(test)]
mod tests;
