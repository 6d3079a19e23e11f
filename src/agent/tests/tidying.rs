//! What the hourly housekeeping leaves alone.

use super::*;
use crate::engine::member::host::Host as _;

/// Older than everything.
const AT_ONCE: i64 = -1;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_tidied_away_while_a_transaction_is_open() {
    let world = World::new(Layout::InPlace);
    world.write("index.php", "one");
    world.push().await;
    world.write("index.php", "two");
    let (mut session, served) = world.connect().await;
    let (offer, encoder) = world.offer().await;
    world.open(&session).await.unwrap();
    session.compare(&offer, false).await.unwrap();
    let generation = Generation {
        serial: 50,
        roots: offer.roots,
        label: String::new(),
        created_ms: 0,
    };
    let txn = [50; 16];
    let staged = session.stage(txn, generation, false, &encoder, |_| {});
    staged.await.unwrap();
    session.prepare(txn).await.unwrap();
    drop(session);
    served.await.unwrap();

    let aside = world
        .root()
        .with_file_name(format!(
            ".{}.fanout",
            world.root().file_name().unwrap().display()
        ))
        .join("aside/000007");
    std::fs::write(&aside, "moved aside").unwrap();
    let tidy = || {
        let claim = world.agent.claim(world.hub.key(), TREE).unwrap();
        serve::tidy(&claim, AT_ONCE, AT_ONCE).unwrap();
    };
    tidy();
    assert!(aside.exists());

    let (session, served) = world.connect().await;
    let doubt = session.doubts()[0].clone();
    let decided = session.settle(&doubt, wire::Decision::Commit).await;
    decided.unwrap();
    drop(session);
    served.await.unwrap();
    assert_eq!(
        std::fs::read(world.root().join("index.php")).unwrap(),
        b"two"
    );
    tidy();
    assert!(!aside.exists());
}
