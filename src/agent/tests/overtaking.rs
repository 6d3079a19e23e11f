//! Blocks of a large file that come out of order.

use super::*;
use tokio::time::{Instant, sleep};

/// More blocks than a member holds before their turn.
const FILE_BYTES: u64 = 128 << 20;
const QUIET: Duration = Duration::from_millis(400);

/// Ends when nothing was sent for a while.
async fn quiet(session: &Session) {
    let (mut sent, mut since) = (0, Instant::now());
    while sent == 0 || since.elapsed() < QUIET {
        let now = session.content_bytes();
        if std::mem::replace(&mut sent, now) != now {
            since = Instant::now();
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// The first block waits for a worker while all others are at hand. A sender that lets them pass
/// buries the member in blocks that it can't write yet, and is refused for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_takes_its_time_is_not_overtaken_by_all_others() {
    let world = World::new(Layout::Switched);
    let file = std::fs::File::create(world.source("backup.img")).unwrap();
    file.set_len(FILE_BYTES).unwrap();
    drop(file);
    let (offer, encoder) = world.offer().await;
    let blocks = encoder.whole([0]).unwrap();
    assert!(blocks.len() > 30, "{} blocks", blocks.len());
    for block in &blocks[1..] {
        encoder.fetch(block).await.unwrap();
    }
    let (mut session, _served) = world.connect().await;
    world.open(&session).await.unwrap();
    session.compare(&offer, false).await.unwrap();
    let generation = Generation {
        serial: 1,
        roots: offer.roots,
        label: String::new(),
        created_ms: 0,
    };
    let stopped = encoder.stop_workers().await;
    let (staged, ()) = tokio::join!(
        session.stage([1; 16], generation, false, &encoder, |_| {}),
        async {
            quiet(&session).await;
            drop(stopped);
        }
    );
    staged.unwrap();
    session.prepare([1; 16]).await.unwrap();
    session.commit([1; 16]).await.unwrap();
    let live = std::fs::metadata(world.root().join("backup.img")).unwrap();
    assert_eq!(live.len(), FILE_BYTES);
}
