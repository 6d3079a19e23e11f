//! Peers that take all they can get, that say nothing, don't listen, or may not come any more.

use super::peer::{LIMIT, Peer, Until, hello, runtime};
use super::raw::{Raw, greeted, object};
use super::victim::{SMALL_GROWTH_KIB, Victim, identity};
use crate::support::run::{self, USUAL_TIME};
use fanout::net::{NetError, Token};
use std::path::PathBuf;
use std::time::Duration;
use sync_proto::wire::{Reply, Request, ServiceRequest};

/// A second hub that the agent's administrator let in: the directory of its identity.
#[track_caller]
pub(super) fn second_hub(victim: &Victim) -> PathBuf {
    let dir = victim.world.dir().join("second-hub");
    let fanout = |words: &[&str], input: &[u8]| {
        let mut command = victim.world.command(words);
        command.env("FANOUT_DIR", &dir);
        run::run_within(&mut command, input, USUAL_TIME).success()
    };
    fanout(&["init"], b"");
    let address = victim.agent.0.to_string();
    let add = [
        "add",
        "server",
        "web1",
        "--address",
        &address,
        "--token-file",
        "-",
    ];
    fanout(&add, &victim.world.invite(0));
    dir.join("state/identity")
}

/// It takes every place that it gets, announces the largest object in each and sends next to nothing
/// of it, doesn't listen, and repeats requests: the other hub is served all the same.
#[test]
fn a_hub_that_takes_all_it_can_get_keeps_the_other_out_of_nothing() {
    let mut victim = Victim::start(&[], 256 * 1024);
    let dir = second_hub(&victim);
    let agent = victim.agent.0;
    let runtime = runtime();
    let (held, codes, silent) = runtime.block_on(async {
        let silent = Raw::connect(&dir, agent, 1024).await.unwrap();
        let (mut held, mut codes) = (Vec::new(), Vec::new());
        for nth in 0..40 {
            // Half of them don't take their answers.
            let until = if nth % 2 == 0 {
                Until::Greeted
            } else {
                Until::Connected
            };
            let raw = match greeted(&dir, agent, until).await {
                Ok(raw) => raw,
                Err(quinn::ConnectionError::ApplicationClosed(closed)) => {
                    codes.push(closed.error_code.into_inner());
                    continue;
                }
                Err(error) => panic!("{error}"),
            };
            held.push(raw);
        }
        for raw in &mut held {
            if let Ok(mut stream) = raw.connection.open_uni().await {
                let head = object(1, 64 << 20, &[0; 100]);
                let _closed = stream.write_all(&head).await;
                // Never finished.
                std::mem::forget(stream);
            }
            let many: Vec<u8> = (0..2000).flat_map(|_| super::raw::framed(&[18])).collect();
            let _closed_or_full =
                tokio::time::timeout(Duration::from_millis(50), raw.out.write_all(&many)).await;
        }
        (held, codes, silent)
    });
    victim.is_well("every place taken");
    victim.serves_its_own_hub();
    victim.is_well("every place taken, and a push");
    let is_open = |raw: &&Raw| raw.connection.close_reason().is_none();
    let open = held.iter().filter(is_open).count();
    assert!(
        (8..=23).contains(&open),
        "{open} sessions of one hub beside a silent one"
    );
    assert!(codes.iter().all(|code| [6, 17].contains(code)), "{codes:?}");
    // Who never said why it came has lost its place.
    runtime.block_on(silent.closed());
}

#[test]
fn a_revoked_key_is_worth_nothing_in_any_connection() {
    let mut victim = Victim::start(&[], SMALL_GROWTH_KIB);
    let stolen = identity(&second_hub(&victim));
    let runtime = runtime();
    let peer = runtime.block_on(async {
        let peer = Peer::connect(&stolen, victim.agent).await.unwrap();
        peer.send(&hello((1, 1))).await;
        assert!(matches!(peer.reply().await, Ok(Reply::Hello { .. })));
        peer
    });
    let mut revoke = victim
        .world
        .command(&["agent", "revoke", &stolen.key().to_string(), "--dir"]);
    run::run(revoke.arg(victim.world.agent_dir(0))).success();
    runtime.block_on(async {
        let end = peer.reply().await;
        assert!(
            matches!(end, Err(NetError::Closed { code: 1, .. })),
            "{end:?}"
        );
        let again = Peer::connect(&stolen, victim.agent).await;
        assert!(
            matches!(again, Err(NetError::Refused { .. })),
            "let in again"
        );
    });
    victim.is_well("a revoked key");
    victim.serves_its_own_hub();
}

#[test]
fn a_token_is_good_for_one_message_of_one_peer() {
    let mut victim = Victim::start(&[], SMALL_GROWTH_KIB);
    let text = String::from_utf8(victim.world.invite(0)).unwrap();
    let invitation = Token::parse(text.trim()).unwrap();
    let one_time = &invitation.identity;
    let runtime = runtime();
    let own_key = Request::Join {
        certificate: one_time.certificate().to_vec(),
    };
    let noise = Request::Join {
        certificate: vec![0x30; 300],
    };
    let wrong = [
        ("Hello by a guest", hello((1, 1)), "FX0321"),
        ("Ping by a guest", Request::Ping, "FX0321"),
        (
            "a service for a guest",
            Request::Service(ServiceRequest::Facts),
            "FX0321",
        ),
        ("a token's own key for ever", own_key, ""),
        ("no certificate", noise, ""),
    ];
    for (what, request, code) in wrong {
        let said = runtime.block_on(async {
            let peer = Peer::connect(one_time, victim.agent).await.unwrap();
            peer.send(&request).await;
            let said = match peer.reply().await {
                Ok(Reply::Refused(refusal)) => refusal.code,
                other => panic!("{what}: {other:?}"),
            };
            let end = tokio::time::timeout(LIMIT, peer.connection.closed()).await;
            assert!(
                matches!(end, Ok(NetError::Closed { .. })),
                "{what}: {end:?}"
            );
            said
        });
        assert!(said.contains(code), "{what}: {said}");
        victim.has_said_once(what, &said);
    }
    // Spent by somebody: whoever has a copy of it stays out.
    let dir = victim.world.dir().join("third-hub");
    let fanout = |words: &[&str], input: &[u8]| {
        let mut command = victim.world.command(words);
        run::run_within(command.env("FANOUT_DIR", &dir), input, USUAL_TIME).success()
    };
    fanout(&["init"], b"");
    let address = victim.agent.0.to_string();
    let add = [
        "add",
        "server",
        "web1",
        "--address",
        &address,
        "--token-file",
        "-",
    ];
    fanout(&add, text.as_bytes());
    let again = runtime.block_on(Peer::connect(one_time, victim.agent));
    assert!(
        matches!(again, Err(NetError::Refused { .. })),
        "a spent token lets in"
    );
    victim.is_well("tokens");
    victim.serves_its_own_hub();
}
