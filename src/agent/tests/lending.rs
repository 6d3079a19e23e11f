//! What a member lends to others, and what it doesn't.

use super::*;

const LENGTH: usize = 3_000_000;

impl World {
    /// A session that only looks, with the tree open.
    async fn look(&self) -> Session {
        let (session, _served) = self.connect().await;
        let open = Open {
            tree: TREE,
            fence: 0,
            level: Level::Stat,
            exclude: Vec::new(),
            preserve: self.preserve.clone(),
            options: TreeOptions::default(),
        };
        session.open(open).await.unwrap();
        session
    }
}

async fn borrow(
    session: &Session,
    content: &[u8],
    offset: u64,
    length: u32,
) -> Result<Vec<u8>, SessionError> {
    session.borrow(Digest::of(content), offset, length).await?;
    let mut all = Vec::new();
    while all.len() < length as usize {
        let left = u64::from(length) - all.len() as u64;
        all.extend(session.borrowed(left).await?);
    }
    Ok(all)
}

#[track_caller]
fn assert_refused(result: Result<Vec<u8>, SessionError>, code: &str) {
    match result {
        Err(SessionError::Refused(refusal)) => assert_eq!(refusal.code, code, "{refusal:?}"),
        other => panic!("not refused: {:?}", other.map(|bytes| bytes.len())),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_range_of_what_was_committed_is_lent() {
    for layout in LAYOUTS {
        let world = World::new(layout);
        let content = noise(1, LENGTH);
        world.write("media/a.bin", &content);
        world.push().await;
        let session = world.look().await;
        let length = u32::try_from(LENGTH).unwrap();
        let whole = borrow(&session, &content, 0, length).await.unwrap();
        assert!(whole == content, "{layout:?}");
        let part = borrow(&session, &content, 1_234_567, 1_000_001).await;
        assert!(part.unwrap() == content[1_234_567..][..1_000_001]);
        let end = borrow(&session, &content, u64::from(length) - 1, 1).await;
        assert_eq!(end.unwrap(), content[LENGTH - 1..]);
        session.leave().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_commit_put_there_is_not_lent() {
    for layout in LAYOUTS {
        let mut world = World::new(layout);
        world.preserve = vec!["/private/".into()];
        world.write("index.php", "<?php 1;");
        world.push().await;
        std::fs::create_dir(world.root().join("private")).unwrap();
        for path in ["private/secret", "left-here"] {
            std::fs::write(world.root().join(path), path).unwrap();
        }
        let session = world.look().await;
        for own in [&b"private/secret"[..], b"left-here", b"not there at all"] {
            assert_refused(borrow(&session, own, 0, 1).await, "FX0601");
        }
        // The session goes on.
        let lent = borrow(&session, b"<?php 1;", 2, 3).await.unwrap();
        assert_eq!(lent, b"php");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_after_the_look_is_not_lent() {
    for layout in LAYOUTS {
        let world = World::new(layout);
        let content = noise(2, LENGTH);
        world.write("a.bin", &content);
        world.push().await;
        settle();
        let session = world.look().await;
        let mut other = content.clone();
        other[7] ^= 1;
        std::fs::write(world.root().join("a.bin"), &other).unwrap();
        assert_refused(borrow(&session, &content, 0, 100).await, "FX0412");
        // Nor is what it has become, under the hash that nobody committed.
        assert_refused(borrow(&session, &other, 0, 100).await, "FX0601");
        // Another path may still have it.
        drop(session);
        world.write("copy.bin", &content);
        world.push().await;
        std::fs::write(world.root().join("a.bin"), &other).unwrap();
        let session = world.look().await;
        let lent = borrow(&session, &content, 0, 100).await.unwrap();
        assert_eq!(lent, content[..100]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_that_is_none_ends_the_session() {
    let world = World::new(Layout::Switched);
    world.write("a.bin", "twelve bytes");
    world.push().await;
    for (offset, length) in [
        (0, 0),
        (0, 13),
        (12, 1),
        (u64::MAX, 1),
        (0, wire::MAX_LEND_BYTES + 1),
    ] {
        let session = world.look().await;
        session
            .borrow(Digest::of(b"twelve bytes"), offset, length)
            .await
            .unwrap();
        let refused = session.borrowed(1).await.map(|_| Vec::new());
        assert_refused(refused, "FX0311");
        assert!(session.leave().await.is_err(), "{offset} {length}");
    }
}
