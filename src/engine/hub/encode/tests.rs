use super::*;
use crate::engine::event::EventSink;
use crate::engine::hub::ownership::Ownership;
use crate::engine::hub::source::{Released, Scanned, SourceSpec, scan};
use std::collections::HashSet;
use std::path::Path;
use sync_proto::delta::batch::parse_batch;
use sync_proto::filter::Scope;
use sync_proto::pack::{PackDecoder, unpack};
use sync_proto::special::SpecialFiles;

struct Fixture {
    source: tempfile::TempDir,
    state: tempfile::TempDir,
    depot: Arc<Depot>,
}

impl Fixture {
    fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        let depot = Arc::new(Depot::open(state.path()).unwrap());
        Self {
            source: tempfile::tempdir().unwrap(),
            state,
            depot,
        }
    }

    fn path(&self) -> &Path {
        self.source.path()
    }

    /// An encoder that has forgotten what the scan has read.
    fn encoder(&self) -> Arc<Encoder> {
        let scanned = self.scan();
        let supply = Supply::source(scanned.root.clone(), &scanned.index);
        self.encoder_of(&scanned, supply)
    }

    fn encoder_of(&self, scanned: &Scanned, supply: Supply) -> Arc<Encoder> {
        Arc::new(Encoder::new(&scanned.manifest, self.depot.clone(), supply, 2).unwrap())
    }

    fn scan(&self) -> Scanned {
        let spec = SourceSpec {
            path: self.path().into(),
            scope: Scope::default(),
            require: Vec::new(),
            ownership: Ownership::default(),
            special_files: SpecialFiles::default(),
            privileged_xattrs: false,
            preserved_seen: false,
            seed: false,
            released: Released::default(),
            index: self.state.path().join("source.index"),
        };
        scan(&spec, Some(&self.depot), &EventSink::none()).unwrap()
    }
}

async fn everything(encoder: &Arc<Encoder>) -> HashSet<Digest> {
    let count = encoder.contents().len() as u32;
    let mut found = HashSet::new();
    for key in encoder.whole(0..count).unwrap() {
        let (header, body) = encoder.fetch(&key).await.unwrap();
        if header == ObjectHeader::Pack {
            let unpacked = unpack(&body, &mut PackDecoder::new()).unwrap();
            found.extend(unpacked.contents().map(|(digest, _)| digest));
        }
    }
    found
}

/// Backup programs and overlay file systems do that all the time.
#[tokio::test]
async fn a_further_name_for_a_file_of_the_source_is_no_change() {
    let fixture = Fixture::new();
    let file = fixture.path().join("file");
    std::fs::write(&file, "content").unwrap();
    let past = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
    let open = std::fs::File::options().write(true).open(&file).unwrap();
    open.set_modified(past).unwrap();
    let encoder = fixture.encoder();
    std::thread::sleep(std::time::Duration::from_millis(20));
    std::fs::hard_link(&file, fixture.state.path().join("further")).unwrap();
    encoder.fill_depot().await.unwrap();
}

#[tokio::test]
async fn a_file_of_the_source_that_was_written_to_is_a_change() {
    let fixture = Fixture::new();
    std::fs::write(fixture.path().join("file"), "content").unwrap();
    let encoder = fixture.encoder();
    std::fs::write(fixture.path().join("file"), "another").unwrap();
    let changed = encoder.fill_depot().await.unwrap_err();
    assert!(changed.to_string().contains("changed"), "{changed}");
}

/// What is published is what was scanned, and that it is still there is asked before the vote.
#[tokio::test]
async fn a_small_file_is_packed_as_it_was_read_and_not_read_again() {
    let fixture = Fixture::new();
    std::fs::write(fixture.path().join("small"), "content").unwrap();
    let large = vec![7; 100_000];
    std::fs::write(fixture.path().join("large"), &large).unwrap();
    let scanned = fixture.scan();
    let encoder = fixture.encoder_of(&scanned, scanned.supply());
    std::fs::remove_file(fixture.path().join("small")).unwrap();
    encoder.fill_depot().await.unwrap();
    let expected = HashSet::from([Digest::of(b"content"), Digest::of(&large)]);
    assert_eq!(everything(&encoder).await, expected);
}

#[tokio::test]
async fn eight_members_cost_the_encodes_of_one() {
    let fixture = Fixture::new();
    for i in 0..400 {
        std::fs::write(
            fixture.path().join(format!("f{i}")),
            format!("{i}").repeat(2_000),
        )
        .unwrap();
    }
    let encoder = fixture.encoder();
    encoder.fill_depot().await.unwrap();
    let made = encoder.made_objects();
    assert!((1..10).contains(&made), "{made}");
    for _ in 0..8 {
        assert_eq!(everything(&encoder).await.len(), 400);
    }
    assert_eq!(encoder.made_objects(), made);
    // The next push finds everything in the depot.
    let again = fixture.encoder();
    again.fill_depot().await.unwrap();
    assert_eq!(everything(&again).await.len(), 400);
    assert_eq!(again.made_objects(), 0);
}

/// A narrow line is worth more processor time than a wide one.
#[tokio::test]
async fn for_members_far_away_packs_are_smaller() {
    let mut made = Vec::new();
    for is_far in [false, true] {
        let fixture = Fixture::new();
        for file in 0..100_u64 {
            // Words in an order that doesn't repeat, as programs have them.
            let words = (0..800_u64).map(|nth| (file * 811 + nth * nth * 7_919) % 977);
            let text: String = words.map(|word| format!("$word{word} = ")).collect();
            std::fs::write(fixture.path().join(format!("f{file}")), text).unwrap();
        }
        let scanned = fixture.scan();
        let supply = scanned.supply();
        let encoder = Encoder::new(&scanned.manifest, fixture.depot.clone(), supply, 2).unwrap();
        let encoder = Arc::new(encoder.with_long_ways(is_far));
        assert_eq!(everything(&encoder).await.len(), 100);
        made.push(encoder.made_bytes());
    }
    assert!(made[1] < made[0], "{made:?}");
}

#[tokio::test]
async fn a_few_contents_of_a_large_pack_do_not_bring_the_whole_pack() {
    let fixture = Fixture::new();
    for i in 0..400_u32 {
        let noise: Vec<u8> = (0..2_000)
            .map(|j| blake3::hash(&(i * 2_000 + j).to_le_bytes()).as_bytes()[0])
            .collect();
        std::fs::write(fixture.path().join(format!("f{i}")), noise).unwrap();
    }
    fixture.encoder().fill_depot().await.unwrap();
    let encoder = fixture.encoder();
    let keys = encoder.whole([3, 200]).unwrap();
    let mut bytes = 0;
    for key in &keys {
        bytes += encoder.fetch(key).await.unwrap().1.len();
    }
    assert!(bytes < 10_000, "{bytes}");
}

#[tokio::test]
async fn a_changed_file_becomes_one_delta_for_all() {
    let fixture = Fixture::new();
    let path = fixture.path().join("big");
    let mut content: Vec<u8> = (0..500_000_u32).flat_map(|i| i.to_le_bytes()).collect();
    std::fs::write(&path, &content).unwrap();
    let old = Digest::of(&content);
    fixture.encoder().fill_depot().await.unwrap();
    content[1_000_000] ^= 1;
    std::fs::write(&path, &content).unwrap();
    let encoder = fixture.encoder();
    encoder.fill_depot().await.unwrap();
    let made = encoder.made_objects();
    for _ in 0..8 {
        let keys = encoder.particular(0, Need::Patched(old)).await.unwrap();
        assert!(matches!(keys[..], [Key::Delta { .. }]));
        let (header, body) = encoder.fetch(&keys[0]).await.unwrap();
        assert_eq!(header, ObjectHeader::Delta);
        assert!(body.len() < 100_000, "{}", body.len());
        assert_eq!(
            parse_batch(&body).unwrap()[0].content(),
            Digest::of(&content)
        );
    }
    assert_eq!(encoder.made_objects(), made + 1);
    // A base that the hub never had: the whole.
    let keys = encoder
        .particular(0, Need::Patched(Digest::of(b"drift")))
        .await
        .unwrap();
    assert!(keys.iter().all(|key| !matches!(key, Key::Delta { .. })));
}

#[tokio::test]
async fn a_source_that_changed_after_the_scan_is_named_and_not_sent() {
    let fixture = Fixture::new();
    std::fs::write(fixture.path().join("a"), "one").unwrap();
    let encoder = fixture.encoder();
    std::fs::write(fixture.path().join("a"), "two").unwrap();
    let error = encoder.fill_depot().await.unwrap_err();
    assert!(
        matches!(error, EncodeError::Supply(SupplyError::Changed(_))),
        "{error}"
    );
}

#[tokio::test]
async fn a_resumed_file_is_sent_from_where_it_stopped() {
    let fixture = Fixture::new();
    let content: Vec<u8> = (0..3_000_000_u32).flat_map(|i| i.to_le_bytes()).collect();
    std::fs::write(fixture.path().join("big"), &content).unwrap();
    let encoder = fixture.encoder();
    let prefix = Digest::of(&content[..8 << 20]);
    let keys = encoder
        .particular(0, Need::Resumed(8 << 20, prefix))
        .await
        .unwrap();
    let from = |key: &Key| {
        if let Key::Block { offset, .. } = key {
            *offset
        } else {
            0
        }
    };
    assert_eq!(keys.iter().map(from).min(), Some(8 << 20));
    let wrong = encoder
        .particular(0, Need::Resumed(8 << 20, Digest::of(b"x")))
        .await
        .unwrap();
    assert_eq!(wrong.iter().map(from).min(), Some(0));
}
