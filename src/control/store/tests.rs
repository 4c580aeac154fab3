use std::fs;
use std::os::unix::fs::PermissionsExt;

use ipnet::IpNet;

use super::*;
use crate::config::model::Config;
use crate::control::allocate::allocate;
use crate::control::allocations::Holder;
use crate::control::change::Change;
use crate::control::sample::Sample;
use crate::net::RealmId;

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

fn config() -> Config {
    Sample::new()
        .realm("a", &["192.168.1.0/24"])
        .realm("b", &["192.168.1.0/24", "10.0.0.0/8=hosts"])
        .realm("c", &["100.64.1.0/24"])
        .host("pacs", "b", &["10.1.2.3"])
        .build()
}

fn commit(store: &mut Store, config: &Config) -> Allocations {
    let (next, changes) = allocate(config, store.allocations()).unwrap();
    store.commit(&next, &changes, NOW).unwrap();
    next
}

#[test]
fn a_new_store_is_empty_and_private() {
    let dir = tempfile::tempdir().unwrap();
    let state_dir = dir.path().join("deep/state");
    assert_eq!(Store::open_read(&state_dir).unwrap(), None);
    assert!(!state_dir.exists(), "looking creates nothing");

    let store = Store::open(&state_dir).unwrap();
    assert_eq!(*store.allocations(), Allocations::default());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&state_dir), mode(store.path())), (0o700, 0o600));
}

#[test]
fn reopening_gives_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let first = commit(&mut store, &config());
    drop(store);

    let mut store = Store::open(dir.path()).unwrap();
    assert_eq!(*store.allocations(), first);
    let second = commit(&mut store, &Sample::new().realm("a", &["192.168.1.0/24"]).build());
    assert_ne!(second, first);
    drop(store);
    assert_eq!(Store::open_read(dir.path()).unwrap().unwrap().allocations, second);
    assert_eq!(*Store::open(dir.path()).unwrap().allocations(), second);
}

#[test]
fn a_reader_sees_the_last_commit_while_the_writer_runs() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    assert_eq!(Store::open_read(dir.path()).unwrap().unwrap().allocations, Allocations::default());
    let committed = commit(&mut store, &config());
    assert_eq!(Store::open_read(dir.path()).unwrap().unwrap().allocations, committed);
    let next = commit(&mut store, &Sample::new().build());
    assert_eq!(Store::open_read(dir.path()).unwrap().unwrap().allocations, next);
}

#[test]
fn a_second_writer_is_refused_with_words() {
    let dir = tempfile::tempdir().unwrap();
    let first = Store::open(dir.path()).unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::Held { .. }), "{error:?}");
    assert!(error.to_string().contains("another ixgate"), "{error}");
    drop(first);
    Store::open(dir.path()).unwrap();
}

/// A kill leaves the bytes that were in the file; a copy of them is what the next process finds.
#[test]
fn a_kill_before_the_commit_leaves_the_state_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let before = commit(&mut store, &config());
    let (next, changes) = allocate(&Sample::new().realm("z", &["10.9.0.0/16"]).build(), &before).unwrap();
    let transaction = store.db.begin_write().unwrap();
    store.write(&transaction, &next, &changes, NOW).unwrap();

    let killed = tempfile::tempdir().unwrap();
    std::fs::copy(store.path(), killed.path().join(FILE_NAME)).unwrap();
    let bytes = std::fs::read(killed.path().join(FILE_NAME)).unwrap();
    assert_eq!(Store::open_read(killed.path()).unwrap().unwrap().allocations, before);
    assert_eq!(std::fs::read(killed.path().join(FILE_NAME)).unwrap(), bytes, "a reader repairs nothing in place");
    assert_eq!(*Store::open(killed.path()).unwrap().allocations(), before);
    assert_eq!(Store::open_read(killed.path()).unwrap().unwrap().allocations, before);

    transaction.abort().unwrap();
    drop(store);
    assert_eq!(*Store::open(dir.path()).unwrap().allocations(), before);
}

#[test]
fn a_kill_after_the_commit_leaves_the_state_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let committed = commit(&mut store, &config());
    let killed = tempfile::tempdir().unwrap();
    std::fs::copy(store.path(), killed.path().join(FILE_NAME)).unwrap();
    assert_eq!(Store::open_read(killed.path()).unwrap().unwrap().allocations, committed);
    assert_eq!(*Store::open(killed.path()).unwrap().allocations(), committed);
}

#[test]
fn what_is_not_a_store_is_damage() {
    for content in [&b"not a database, but long enough to look at"[..], &[0; 100_000]] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE_NAME), content).unwrap();
        for error in [Store::open(dir.path()).unwrap_err(), Store::open_read(dir.path()).unwrap_err()] {
            assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
        }
    }
}

#[test]
fn overwritten_pages_are_damage() {
    let dir = tempfile::tempdir().unwrap();
    commit(&mut Store::open(dir.path()).unwrap(), &config());
    let path = dir.path().join(FILE_NAME);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(8).position(|window| window == b"\"native\"").unwrap();
    bytes[at] = b'X';
    std::fs::write(&path, bytes).unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
}

#[test]
fn rows_that_contradict_each_other_are_damage() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    commit(&mut store, &config());
    let transaction = store.db.begin_write().unwrap();
    let row = r#"{"owner":9,"native":"10.0.0.0/16","state":"in_use"}"#;
    transaction.open_table(ALIASES).unwrap().insert("100.64.0.0/16", row).unwrap();
    transaction.commit().unwrap();
    drop(store);
    let error = Store::open(dir.path()).unwrap_err();
    assert!(error.to_string().contains("overlap"), "{error}");
}

#[test]
fn a_newer_layout_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    commit(&mut store, &config());
    let transaction = store.db.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert("schema", "3").unwrap();
    transaction.commit().unwrap();
    drop(store);
    for error in [Store::open(dir.path()).unwrap_err(), Store::open_read(dir.path()).unwrap_err()] {
        assert!(matches!(error, StoreError::Newer { found: 3, .. }), "{error:?}");
    }
}

/// Rows as the first layout wrote them.
#[test]
fn the_first_layout_is_read_as_it_stands_and_brought_up_by_the_next_commit() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let transaction = store.db.begin_write().unwrap();
    let rows = |table, rows: &[(&str, &str)]| {
        let mut table = transaction.open_table(table).unwrap();
        rows.iter().for_each(|(key, value)| drop(table.insert(*key, *value).unwrap()));
    };
    rows(META, &[("schema", "1"), ("space6", "fd69:7867:6174::/48")]);
    rows(REALMS, &[("a", r#"{"number":1,"configured":true}"#), ("b", r#"{"number":2,"configured":true}"#)]);
    rows(
        ALIASES,
        &[
            ("100.64.0.0/24", r#"{"owner":0,"native":"0.0.0.0/24","state":"in_use"}"#),
            ("100.64.1.0/24", r#"{"owner":1,"native":"192.168.1.0/24","state":"in_use"}"#),
            ("100.64.2.0/24", r#"{"viewer":2,"owner":1,"native":"192.168.1.0/24","state":"reserved"}"#),
        ],
    );
    transaction.commit().unwrap();
    drop(store);

    let state = Store::open_read(dir.path()).unwrap().unwrap().allocations;
    let holder = |text: &str| state.aliases[&text.parse().unwrap()].holder;
    assert_eq!(holder("100.64.1.0/24"), Holder::default_of(RealmId(1), "192.168.1.0/24".parse::<IpNet>().unwrap()));
    assert_eq!(holder("100.64.2.0/24").viewer, Some(RealmId(2)));

    store = Store::open(dir.path()).unwrap();
    assert_eq!(*store.allocations(), state);
    let config = Sample::new()
        .realm("a", &["192.168.1.0/24", "fd00:1::/64"])
        .realm("b", &["10.0.0.0/24=198.18.0.0/24"])
        .host("pacs", "a", &["fd00:1::3"])
        .build();
    let next = commit(&mut store, &config);
    drop(store);
    assert_eq!(Store::open_read(dir.path()).unwrap().unwrap().allocations, next);
    assert!(state.aliases.keys().all(|alias| next.aliases[alias].holder == state.aliases[alias].holder));
    let db = builder().open_read_only(dir.path().join(FILE_NAME)).unwrap();
    assert_eq!(table(dir.path(), &db.begin_read().unwrap(), META).unwrap()["schema"], "2");
    let natives = next.aliases.values().map(|record| record.holder.native.to_string());
    assert!(natives.into_iter().any(|native| native == "fd00:1::3/128"));
}

#[test]
fn the_audit_trail_says_when_and_what_and_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let (next, changes) = allocate(&config(), store.allocations()).unwrap();
    store.commit(&next, &changes, NOW + Duration::from_secs(1_700_000_000)).unwrap();
    let entries = store.audit(100).unwrap();
    assert_eq!(entries.len(), changes.len());
    assert_eq!(entries[0], AuditEntry { at_unix_secs: 1_700_000_000, event: "realm a gets number 1".into() });

    let many = |from: u16| (from..from + 6_000).map(|number| Change::RealmRemoved { realm: "a".into(), number });
    store.commit(&next, &many(0).collect(), NOW).unwrap();
    store.commit(&next, &many(6_000).collect(), NOW).unwrap();
    let entries = store.audit(usize::MAX).unwrap();
    assert_eq!(entries.len() as u64, AUDIT_ENTRIES_MAX);
    assert!(entries.last().unwrap().event.contains("11999"), "the newest stay");
    assert_eq!(store.audit(3).unwrap(), entries[entries.len() - 3..]);
}

#[test]
fn an_empty_file_is_damage_and_never_ours() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE_NAME);
    fs::write(&path, "").unwrap();
    for error in [Store::open(directory.path()).unwrap_err(), Store::open_read(directory.path()).unwrap_err()] {
        assert!(matches!(&error, StoreError::Damaged { detail, .. } if detail == EMPTY), "{error}");
    }
    fs::remove_file(&path).unwrap();
    // A kill at the first start leaves a beginning, which the next one does not mind.
    fs::write(path.with_extension("new"), "abc").unwrap();
    drop(Store::open(directory.path()).unwrap());
    assert!(fs::metadata(&path).unwrap().len() > 0 && !path.with_extension("new").exists());
}

#[test]
fn who_only_looks_finds_what_a_start_finds() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = Store::open(directory.path()).unwrap();
    commit(&mut store, &config());
    let busy = Store::open_read(directory.path()).unwrap().unwrap();
    assert_eq!(busy.allocations, *store.allocations(), "beside a running appliance");
    drop(store);
    let whole = fs::read(directory.path().join(FILE_NAME)).unwrap();
    let mut found = [0; 2];
    for seed in 0..60_u64 {
        let mut bytes = whole.clone();
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        // The first part is what is in use.
        for _ in 0..1 + seed % 40 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let bit = (random >> 20) as usize % (8 * bytes.len().min(16_384));
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        let other = tempfile::tempdir().unwrap();
        fs::write(other.path().join(FILE_NAME), &bytes).unwrap();
        let looked = Store::open_read(other.path()).map(|view| view.unwrap().allocations);
        let opened = Store::open(other.path()).map(|store| store.allocations().clone());
        assert_eq!(looked.as_ref().ok(), opened.as_ref().ok(), "{seed}: {looked:?}, {opened:?}");
        found[usize::from(opened.is_ok())] += 1;
    }
    assert!(found[0] > 10, "{found:?}");
}
