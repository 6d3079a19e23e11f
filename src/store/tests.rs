//! Transactions, and what the other tests of the store need.

use super::*;
use crate::clock::UnixMillis;
use crate::model::TreeId;
use sync_proto::digest::Digest;

pub(super) async fn platform_store(dir: &tempfile::TempDir) -> (Store, PlatformName) {
    let store = Store::open(&dir.path().join("db")).await.unwrap();
    let name: PlatformName = "drupal".parse().unwrap();
    let tree = TreeId::from_bytes([7; 16]);
    store.add_platform(&name, tree).await.unwrap();
    (store, name)
}

pub(super) fn new_generation(platform: &PlatformName) -> NewGeneration {
    NewGeneration {
        platform: platform.clone(),
        content_root: Digest::of(b"content"),
        meta_root: Digest::of(b"metadata"),
        label: Some("v1.2-3-gabcdef".into()),
        author: "alice".into(),
        created: UnixMillis(1_000),
        source: Some("/srv/src/drupal".into()),
        entries: 20_000,
        content_bytes: 1 << 33,
    }
}

/// A transaction on a fresh generation, its id made from the serial.
async fn begun(store: &Store, platform: &PlatformName) -> (TxnBytes, Serial) {
    let new = new_generation(platform);
    let serial = store.begin_generation(&new, 0).await.unwrap();
    let txn = begun_for(store, platform, serial, Purpose::Publish).await;
    (txn, serial)
}

async fn begun_for(
    store: &Store,
    platform: &PlatformName,
    serial: Serial,
    purpose: Purpose,
) -> TxnBytes {
    let fence = store.next_fence(platform, 0).await.unwrap();
    let txn = u128::from(fence).to_le_bytes();
    let new = NewTransaction {
        txn,
        platform: platform.clone(),
        serial,
        fence,
        purpose,
        members: vec!["web1".parse().unwrap(), "web2".parse().unwrap()],
        author: "alice".into(),
        begun: UnixMillis(2_000),
    };
    store.begin_transaction(&new).await.unwrap();
    txn
}

pub(super) async fn committed(store: &Store, platform: &PlatformName) -> Serial {
    let (txn, serial) = begun(store, platform).await;
    let at = UnixMillis(3_000);
    store.decide(&txn, Decision::Commit, at).await.unwrap();
    serial
}

#[tokio::test]
async fn a_decision_survives_a_restart_and_never_changes() {
    let dir = tempfile::tempdir().unwrap();
    let (store, name) = platform_store(&dir).await;
    let (txn, serial) = begun(&store, &name).await;
    assert_eq!(store.decision(&txn).await.unwrap(), None);
    assert_eq!(store.open_transactions(&name).await.unwrap().len(), 1);
    let at = UnixMillis(3_000);
    store.decide(&txn, Decision::Commit, at).await.unwrap();
    // Not closed, as after a kill: another connection reads what is on the disk.
    let other = Store::open(&dir.path().join("db")).await.unwrap();
    assert_eq!(other.decision(&txn).await.unwrap(), Some(Decision::Commit));
    let later = UnixMillis(9_000);
    other.decide(&txn, Decision::Commit, later).await.unwrap();
    let error = other
        .decide(&txn, Decision::Abort, later)
        .await
        .unwrap_err();
    assert!(
        matches!(error, StoreError::AlreadyDecided(Decision::Commit)),
        "{error}"
    );
    assert_eq!(other.settle(&txn, later).await.unwrap(), Decision::Commit);
    let known = other.transaction(&txn).await.unwrap().unwrap();
    assert_eq!(known.decision, Some((Decision::Commit, at)));
    assert_eq!(known.members.len(), 2);
    assert_eq!(known.serial, serial);
    assert_eq!(other.open_transactions(&name).await.unwrap(), []);
}

#[tokio::test]
async fn the_schema_itself_refuses_to_change_a_decision() {
    let dir = tempfile::tempdir().unwrap();
    let (store, name) = platform_store(&dir).await;
    committed(&store, &name).await;
    for statement in [
        "UPDATE transactions SET decision = 'abort'",
        "UPDATE transactions SET decision = NULL, decided = NULL",
    ] {
        let error = sqlx::query(statement)
            .execute(&store.pool)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("a decision is final"), "{error}");
    }
}

#[tokio::test]
async fn a_commit_sets_what_is_desired_and_an_abort_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let (store, name) = platform_store(&dir).await;
    let desired = || async { store.platform(&name).await.unwrap().unwrap().desired };
    let (txn, first) = begun(&store, &name).await;
    assert_eq!(desired().await, None);
    let at = UnixMillis(3_000);
    store.decide(&txn, Decision::Commit, at).await.unwrap();
    assert_eq!(desired().await, Some(first));
    let listed = store.generations(&name).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].committed, at);
    assert_eq!(listed[0].content_root, Digest::of(b"content"));
    assert_eq!(listed[0].content_bytes, 1 << 33);

    let (txn, _) = begun(&store, &name).await;
    store.decide(&txn, Decision::Abort, at).await.unwrap();
    assert_eq!(desired().await, Some(first));
    assert_eq!(store.generations(&name).await.unwrap().len(), 1);
    assert_eq!(committed(&store, &name).await, Serial(3));

    // A rollback commits an old generation again, which stays as it was.
    let txn = begun_for(&store, &name, first, Purpose::Publish).await;
    store
        .decide(&txn, Decision::Commit, UnixMillis(7_000))
        .await
        .unwrap();
    assert_eq!(desired().await, Some(first));
    assert_eq!(store.generation(&name, first).await.unwrap().committed, at);
}

#[tokio::test]
async fn a_resync_never_sets_what_is_desired() {
    let dir = tempfile::tempdir().unwrap();
    let (store, name) = platform_store(&dir).await;
    let old = committed(&store, &name).await;
    let new = committed(&store, &name).await;
    let txn = begun_for(&store, &name, old, Purpose::Restore).await;
    store
        .decide(&txn, Decision::Commit, UnixMillis(4_000))
        .await
        .unwrap();
    assert_eq!(
        store.platform(&name).await.unwrap().unwrap().desired,
        Some(new)
    );
    let txn = begun_for(&store, &name, old, Purpose::Restore).await;
    store
        .decide(&txn, Decision::Abort, UnixMillis(4_000))
        .await
        .unwrap();
    assert_eq!(store.generations(&name).await.unwrap().len(), 2);
}

#[tokio::test]
async fn what_is_unknown_or_undecided_is_answered_with_abort_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let (store, name) = platform_store(&dir).await;
    let at = UnixMillis(3_000);
    assert_eq!(store.settle(&[9; 16], at).await.unwrap(), Decision::Abort);
    assert!(matches!(
        store.decide(&[9; 16], Decision::Commit, at).await,
        Err(StoreError::UnknownTransaction)
    ));
    let (txn, _) = begun(&store, &name).await;
    assert_eq!(store.settle(&txn, at).await.unwrap(), Decision::Abort);
    assert!(matches!(
        store.decide(&txn, Decision::Commit, at).await,
        Err(StoreError::AlreadyDecided(Decision::Abort))
    ));
}

#[tokio::test]
async fn only_one_of_two_contradicting_decisions_wins_a_race() {
    let dir = tempfile::tempdir().unwrap();
    let (store, name) = platform_store(&dir).await;
    for _ in 0..10 {
        let (txn, _) = begun(&store, &name).await;
        let committer = store.clone();
        let commit = tokio::spawn(async move {
            committer
                .decide(&txn, Decision::Commit, UnixMillis(1))
                .await
                .is_ok()
        });
        let answer = store.settle(&txn, UnixMillis(1)).await.unwrap();
        let committed = commit.await.unwrap();
        assert_eq!(committed, answer == Decision::Commit);
        assert_eq!(store.decision(&txn).await.unwrap(), Some(answer));
    }
}

#[tokio::test]
async fn a_member_in_doubt_gets_its_answer_after_the_platform_was_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let (store, name) = platform_store(&dir).await;
    let (txn, _) = begun(&store, &name).await;
    store
        .decide(&txn, Decision::Commit, UnixMillis(1))
        .await
        .unwrap();
    store.forget_platform(&name).await.unwrap();
    assert_eq!(
        store.settle(&txn, UnixMillis(2)).await.unwrap(),
        Decision::Commit
    );
}

#[tokio::test]
async fn the_database_is_private_and_durable() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.sqlite");
    std::fs::write(&path, b"").unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let store = Store::open(&path).await.unwrap();
    let pragma = |name: &'static str| {
        let pool = store.pool.clone();
        async move {
            let row = sqlx::query(name).fetch_one(&pool).await.unwrap();
            row.try_get::<String, _>(0)
                .or_else(|_| row.try_get::<i64, _>(0).map(|n| n.to_string()))
                .unwrap()
        }
    };
    assert_eq!(pragma("PRAGMA journal_mode").await, "wal");
    assert_eq!(pragma("PRAGMA synchronous").await, "2", "2 is FULL");
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    store.close().await;
}

#[tokio::test]
async fn a_database_from_a_newer_fanout_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.sqlite");
    let store = Store::open(&path).await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'from the future', 1, x'00', 0)",
    )
    .execute(&store.pool)
    .await
    .unwrap();
    store.close().await;
    let error = Store::open(&path).await.unwrap_err();
    assert!(
        matches!(error, StoreError::Newer { found: 9999, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("schema 9999"), "{error}");
}

#[tokio::test]
async fn who_cannot_open_the_database_is_not_told_to_restore_it() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = platform_store(&dir).await;
    drop(store);
    // The file itself is in order, and what SQLite needs beside it can't be had.
    let beside = dir.path().join("db-wal");
    let _gone_with_the_last_connection = std::fs::remove_file(&beside);
    std::fs::create_dir(&beside).unwrap();
    let problem = Store::open(&dir.path().join("db"))
        .await
        .unwrap_err()
        .problem();
    assert_eq!(problem.code, Code::StateDamaged);
    assert!(problem.hint().contains("ulimit -n"), "{problem:?}");
}
