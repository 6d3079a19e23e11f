//! How fast bytes go through. Printed, not judged: `cargo test net:: -- --nocapture`.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_mebibytes_in_objects_of_one_go_through() {
    let body = pattern(1024 * 1024);
    for carrier in CARRIERS {
        let pair = pair(carrier).await;
        let start = std::time::Instant::now();
        let mut sending = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let (hub, body) = (pair.hub.clone(), body.clone());
            sending.spawn(async move {
                for nth in 0..16 {
                    hub.send_object(&[nth], body.clone()).await.unwrap();
                }
            });
        }
        for _ in 0..64 {
            let object = tokio::time::timeout(6 * SOON, pair.agent.recv_object(1024 * 1024));
            assert_eq!(object.await.unwrap().unwrap().body.len(), body.len());
        }
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{carrier:?}: 64 MiB in {seconds:.2} s, {:.0} MiB/s",
            64.0 / seconds
        );
        println!("{:?}", pair.hub);
        sending.join_all().await;
    }
}
