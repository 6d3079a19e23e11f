//! What goes through, in which order, and what is held back.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn messages_and_objects_arrive_whole_in_both_directions() {
    for carrier in CARRIERS {
        let pair = pair(carrier).await;
        assert_eq!(pair.hub.peer(), pair.agent_key);
        assert_eq!(pair.agent.peer(), pair.hub_key);
        for (from, to) in [(&pair.hub, &pair.agent), (&pair.agent, &pair.hub)] {
            for bytes in [0, 1, 5_000, limits::CONTROL_MAX_BYTES] {
                let message = pattern(bytes);
                let (sent, received) =
                    soon(async { tokio::join!(from.send(&message), to.recv()) }).await;
                sent.unwrap();
                assert_eq!(received.unwrap(), message, "{carrier:?}, {bytes} bytes");
            }
            for (header, body) in [(0, 0), (3, 1), (60_000, 70_000), (10, 9_000_000)] {
                let (header, body) = (pattern(header), pattern(body));
                let sending = from.send_object(&header, body.clone());
                let (sent, received) =
                    soon(async { tokio::join!(sending, to.recv_object(body.len())) }).await;
                sent.unwrap();
                let received = received.unwrap();
                assert_eq!(received.header, header);
                assert!(
                    received.body == body,
                    "{carrier:?}: a body of {} differs",
                    body.len()
                );
            }
        }
        let (hub, agent) = (pair.hub.stats(), pair.agent.stats());
        assert_eq!(hub.received_bytes, agent.sent_bytes, "{carrier:?}");
        assert_eq!(agent.received_bytes, hub.sent_bytes, "{carrier:?}");
        assert!(
            (10_000_000..11_500_000).contains(&hub.sent_bytes),
            "{carrier:?}: {hub:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_objects_at_once_than_there_are_places_all_arrive() {
    for carrier in CARRIERS {
        let pair = pair(carrier).await;
        let mut sending = tokio::task::JoinSet::new();
        for nth in 0..24u8 {
            let hub = pair.hub.clone();
            let body = pattern(3_000_000 + usize::from(nth));
            sending.spawn(async move { hub.send_object(&[nth], body).await.unwrap() });
        }
        let mut seen = std::collections::BTreeSet::new();
        while seen.len() < 24 {
            let object = soon(pair.agent.recv_object(4_000_000)).await.unwrap();
            let nth = object.header[0];
            assert!(
                object.body == pattern(3_000_000 + usize::from(nth)),
                "{carrier:?}: {nth}"
            );
            seen.insert(nth);
        }
        sending.join_all().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn control_messages_overtake_objects_that_nobody_reads() {
    for carrier in CARRIERS {
        let pair = pair(carrier).await;
        let hub = pair.hub.clone();
        let objects = tokio::spawn(async move {
            while hub.send_object(b"", pattern(16_000_000)).await.is_ok() {}
        });
        tokio::time::sleep(Duration::from_millis(300)).await;
        soon(pair.hub.send(b"through")).await.unwrap();
        assert_eq!(
            soon(pair.agent.recv()).await.unwrap(),
            "through",
            "{carrier:?}"
        );
        soon(pair.agent.send(b"back")).await.unwrap();
        assert_eq!(soon(pair.hub.recv()).await.unwrap(), "back", "{carrier:?}");
        objects.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_does_not_read_holds_the_sender_back() {
    for carrier in CARRIERS {
        let pair = pair(carrier).await;
        let mut sending = tokio::task::JoinSet::new();
        for _ in 0..6 {
            let hub = pair.hub.clone();
            sending.spawn(async move {
                while hub.send_object(b"", pattern(1_000_000)).await.is_ok() {}
            });
        }
        let mut sent_bytes = pair.hub.stats().sent_bytes;
        // Until half a second brings nothing more.
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let now = pair.hub.stats().sent_bytes;
            if now == sent_bytes {
                break;
            }
            sent_bytes = now;
            assert!(
                sent_bytes < 64_000_000,
                "{carrier:?}: {sent_bytes} bytes and no end"
            );
        }
        println!("{carrier:?}: {sent_bytes} bytes went to a receiver that doesn't read");

        let messages = pair.hub.clone();
        let flood = tokio::spawn(async move {
            let mut sent_bytes = 0;
            loop {
                let message = vec![0; 100_000];
                let sending = messages.send(&message);
                if tokio::time::timeout(Duration::from_millis(500), sending)
                    .await
                    .is_err()
                {
                    return sent_bytes;
                }
                sent_bytes += 100_000;
                assert!(sent_bytes < 200_000_000, "no end");
            }
        });
        println!(
            "{carrier:?}: {} bytes of messages as well",
            soon(flood).await.unwrap()
        );
        sending.abort_all();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn received_objects_never_take_more_than_the_budget() {
    for carrier in CARRIERS {
        let tight = Options {
            budget: Budget::new(1_500_000),
            ..Options::default()
        };
        let budget = tight.budget.clone();
        let pair = pair_with(carrier, Options::default(), tight).await;
        let hub = pair.hub.clone();
        let sending = tokio::spawn(async move {
            for nth in 0..4 {
                hub.send_object(&[nth], pattern(1_000_000)).await.unwrap();
            }
        });
        let first = soon(pair.agent.recv_object(1_000_000)).await.unwrap();
        assert_eq!(budget.free_bytes(), 500_000);
        let waiting = pair.agent.recv_object(1_000_000);
        let second = tokio::time::timeout(Duration::from_millis(200), waiting).await;
        assert!(
            second.is_err(),
            "{carrier:?}: two objects of 1 MB in a budget of 1.5 MB"
        );
        drop(first);
        // The call that was given up has lost nothing.
        for nth in 1..4 {
            let object = soon(pair.agent.recv_object(1_000_000)).await.unwrap();
            assert_eq!(object.header[..], [nth], "{carrier:?}");
        }
        soon(sending).await.unwrap();
        assert_eq!(budget.free_bytes(), 1_500_000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_given_up_tears_nothing() {
    for carrier in CARRIERS {
        let pair = pair(carrier).await;
        // An object taken back half way is never seen.
        let body = pattern(100_000_000);
        let given_up = pair.hub.send_object(b"torn", body);
        let given_up = tokio::time::timeout(Duration::from_millis(100), given_up).await;
        assert!(
            given_up.is_err(),
            "{carrier:?}: nobody read it, and it was sent"
        );
        // Receiving that is given up again and again loses nothing.
        let hub = pair.hub.clone();
        let sending = tokio::spawn(async move {
            for nth in 0..50u8 {
                hub.send(&vec![nth; 50_000]).await.unwrap();
                hub.send_object(&[nth], pattern(50_000)).await.unwrap();
            }
        });
        let brief = Duration::from_micros(200);
        let (mut messages, mut objects) = (0u8, 0u8);
        soon(async {
            while messages < 50 || objects < 50 {
                if let Ok(message) = tokio::time::timeout(brief, pair.agent.recv()).await {
                    assert!(message.unwrap() == vec![messages; 50_000]);
                    messages += 1;
                }
                let object = pair.agent.recv_object(200_000_000);
                if let Ok(object) = tokio::time::timeout(brief, object).await {
                    let object = object.unwrap();
                    assert_eq!(object.header[..], [objects], "{carrier:?}");
                    assert!(object.body == pattern(50_000));
                    objects += 1;
                }
            }
        })
        .await;
        soon(sending).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_before_the_goodbye_is_heard() {
    for carrier in CARRIERS {
        let pair = pair(carrier).await;
        for _ in 0..20 {
            pair.agent.send(&[7; 100_000]).await.unwrap();
        }
        let agent = pair.agent.clone();
        let goodbye = tokio::spawn(async move { agent.finish(42, "done\u{1b}[2J").await });
        for _ in 0..20 {
            assert_eq!(
                soon(pair.hub.recv()).await.unwrap().len(),
                100_000,
                "{carrier:?}"
            );
        }
        let end = soon(pair.hub.recv()).await.unwrap_err();
        let NetError::Closed { code: 42, reason } = &end else {
            panic!("{carrier:?}: {end}")
        };
        assert_eq!(reason, "done\\u{1b}[2J");
        soon(goodbye).await.unwrap();
        let ours = soon(pair.agent.recv()).await.unwrap_err();
        assert!(
            matches!(ours, NetError::ClosedHere { code: 42, .. }),
            "{carrier:?}: {ours}"
        );
        assert!(!pair.agent.is_open());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_last_clone_closes() {
    for carrier in CARRIERS {
        let pair = pair(carrier).await;
        let clone = pair.hub.clone();
        drop(pair.hub);
        clone.send(b"alive").await.unwrap();
        assert_eq!(soon(pair.agent.recv()).await.unwrap(), "alive");
        drop(clone);
        let end = soon(pair.agent.recv()).await.unwrap_err();
        assert!(
            matches!(end, NetError::Closed { code: 0, .. }),
            "{carrier:?}: {end}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goodbye_in_full_flight_is_heard_at_once() {
    for carrier in [CARRIERS, CARRIERS, CARRIERS].concat() {
        let pair = pair(carrier).await;
        let mut sending = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let hub = pair.hub.clone();
            sending.spawn(
                async move { while hub.send_object(b"", pattern(500_000)).await.is_ok() {} },
            );
        }
        let agent = pair.agent.clone();
        let reading = tokio::spawn(async move {
            loop {
                if let Err(end) = agent.recv_object(500_000).await {
                    return end;
                }
            }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        pair.hub.close(42, "interrupted");
        let end = tokio::time::timeout(Duration::from_secs(3), reading).await;
        let end = end.expect("the goodbye was held back").unwrap();
        assert!(
            matches!(end, NetError::Closed { code: 42, .. }),
            "{carrier:?}: {end}"
        );
        soon(sending.join_all()).await;
    }
}
