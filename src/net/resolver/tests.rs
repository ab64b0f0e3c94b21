//! Against a name server of the test's own, on loopback addresses and a port of its own.

use std::sync::Mutex;

use proptest::prelude::*;
use simple_dns::rdata::{A, AAAA, CNAME, RData};
use simple_dns::{CLASS, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use super::*;

/// What a server says to a question; several messages are sent one after the other, by TCP only the last. An empty one is
/// a pause instead.
type Script = fn(&str, Kind, Packet<'static>) -> Vec<Vec<u8>>;

/// Questions in the order they came: server, name, kind, whether by TCP.
type Heard = Arc<Mutex<Vec<(IpAddr, String, Kind, bool)>>>;

struct Lab {
    _dir: TempDir,
    files: Files,
    heard: Heard,
}

/// Servers on 127.0.0.1, 127.0.0.2, ... that follow these scripts; the files say what is given.
async fn lab(scripts: &[Script], resolv_conf: &str, hosts: &str) -> Lab {
    lab_by_default(scripts, &format!("options timeout:1 attempts:1\n{resolv_conf}"), hosts).await
}

/// The same, as patient as resolv.conf is by default.
async fn lab_by_default(scripts: &[Script], resolv_conf: &str, hosts: &str) -> Lab {
    let dir = tempfile::tempdir().unwrap();
    let (hosts_file, conf_file) = (dir.path().join("hosts"), dir.path().join("resolv.conf"));
    let heard = Arc::new(Mutex::new(Vec::new()));
    let mut conf = format!("{resolv_conf}\n");
    let mut port = 0;
    for (n, script) in scripts.iter().enumerate() {
        let address = IpAddr::from([127, 0, 0, u8::try_from(n + 1).unwrap()]);
        // The same number for UDP and TCP, and at every address: the first that is free for all.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind((address, port)).await.expect("a port that is free at every loopback address");
            match TcpListener::bind(udp.local_addr().unwrap()).await {
                Ok(tcp) => break (udp, tcp),
                Err(_) if n == 0 => {}
                Err(error) => panic!("{error}"),
            }
        };
        port = udp.local_addr().unwrap().port();
        conf += &format!("nameserver {address}\n");
        tokio::spawn(serve(udp, tcp, *script, heard.clone()));
    }
    std::fs::write(&hosts_file, hosts).unwrap();
    std::fs::write(&conf_file, conf).unwrap();
    Lab { _dir: dir, files: Files { hosts: hosts_file, resolv_conf: conf_file, port }, heard }
}

async fn serve(udp: UdpSocket, tcp: TcpListener, script: Script, heard: Heard) {
    let here = udp.local_addr().unwrap().ip();
    let answers = |query: &[u8], by_tcp: bool| {
        let query = Packet::parse(query).unwrap();
        let question = &query.questions[0];
        let name = question.qname.to_string();
        let kind = if question.qtype == QTYPE::TYPE(TYPE::A) { Kind::A } else { Kind::Aaaa };
        heard.lock().unwrap().push((here, name.clone(), kind, by_tcp));
        let mut reply = Packet::new_reply(query.id());
        reply.questions.push(question.clone().into_owned());
        script(&name, kind, reply)
    };
    let mut buffer = [0; 512];
    loop {
        tokio::select! {
            Ok((length, from)) = udp.recv_from(&mut buffer) => {
                for answer in answers(&buffer[..length], false) {
                    if answer.is_empty() {
                        sleep(LEAD + Duration::from_millis(50)).await;
                        continue;
                    }
                    udp.send_to(&answer, from).await.unwrap();
                }
            }
            Ok((mut stream, _)) = tcp.accept() => {
                let length = stream.read_u16().await.unwrap();
                let mut query = vec![0; length.into()];
                stream.read_exact(&mut query).await.unwrap();
                let answer = answers(&query, true).pop().unwrap();
                stream.write_u16(answer.len().try_into().unwrap()).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        }
    }
}

fn name(text: &str) -> Name<'static> {
    Name::new(text).unwrap().into_owned()
}

fn v4(owner: &str, last: u8) -> ResourceRecord<'static> {
    let address = u32::from_be_bytes([192, 0, 2, last]);
    ResourceRecord::new(name(owner), CLASS::IN, 60, RData::A(A { address }))
}

fn v6(owner: &str, last: u16) -> ResourceRecord<'static> {
    let address = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).into();
    ResourceRecord::new(name(owner), CLASS::IN, 60, RData::AAAA(AAAA { address }))
}

fn alias(owner: &str, of: &str) -> ResourceRecord<'static> {
    ResourceRecord::new(name(owner), CLASS::IN, 60, RData::CNAME(CNAME(name(of))))
}

fn with(mut reply: Packet<'static>, records: Vec<ResourceRecord<'static>>) -> Vec<Vec<u8>> {
    reply.answers = records;
    vec![reply.build_bytes_vec_compressed().unwrap()]
}

fn saying(mut reply: Packet<'static>, rcode: RCODE) -> Vec<Vec<u8>> {
    *reply.rcode_mut() = rcode;
    vec![reply.build_bytes_vec().unwrap()]
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// `db.example` has an address in each family; nothing else exists.
fn db_only(asked: &str, kind: Kind, reply: Packet<'static>) -> Vec<Vec<u8>> {
    match (asked, kind) {
        ("db.example", Kind::A) => with(reply, vec![v4(asked, 7), v4(asked, 8)]),
        ("db.example", Kind::Aaaa) => with(reply, vec![v6(asked, 7)]),
        _ => saying(reply, RCODE::NameError),
    }
}

#[tokio::test]
async fn a_name_has_the_addresses_of_both_families() {
    let lab = lab(&[db_only], "", "").await;
    assert_eq!(lab.files.resolve("db.example").await, Ok(ips(&["192.0.2.7", "192.0.2.8", "2001:db8::7"])));
}

#[tokio::test]
async fn a_short_name_is_found_by_the_search_list_and_a_full_one_without_it() {
    let lab = lab(&[db_only], "search other.example example", "").await;
    assert_eq!(lab.files.resolve("db").await.unwrap().len(), 3);
    assert_eq!(lab.files.resolve("db.").await, Err(ResolveError::NotFound("db.".into())));
    let heard = lab.heard.lock().unwrap();
    let names: Vec<&str> = heard.iter().filter(|h| h.2 == Kind::A).map(|h| h.1.as_str()).collect();
    assert_eq!(names, ["db.other.example", "db.example", "db"]);
}

#[tokio::test]
async fn aliases_are_followed_and_loops_end() {
    let script: Script = |asked, kind, reply| match (asked, kind) {
        ("www.example", Kind::A) => with(
            reply,
            vec![alias("www.example", "WEB.example"), alias("web.example", "a.example"), v4("a.example", 1)],
        ),
        ("loop.example", _) => {
            with(reply, vec![alias("loop.example", "pool.example"), alias("pool.example", "loop.example")])
        }
        // Records of names nobody asked for are no answer.
        ("fake.example", Kind::A) => with(reply, vec![v4("bank.example", 66)]),
        _ => with(reply, vec![]),
    };
    let lab = lab(&[script], "", "").await;
    assert_eq!(lab.files.resolve("www.example").await, Ok(ips(&["192.0.2.1"])));
    for none in ["loop.example", "fake.example"] {
        assert_eq!(lab.files.resolve(none).await, Err(ResolveError::NotFound(none.into())));
    }
}

#[tokio::test]
async fn a_truncated_answer_is_asked_for_again_by_tcp() {
    let script: Script = |asked, kind, mut reply| {
        if kind == Kind::Aaaa {
            return with(reply, vec![]);
        }
        let mut cut = reply.clone();
        cut.set_flags(PacketFlag::TRUNCATION);
        reply.answers = (0..200).map(|n| v4(asked, n)).collect();
        vec![reply.build_bytes_vec_compressed().unwrap(), cut.build_bytes_vec().unwrap()].into_iter().rev().collect()
    };
    let lab = lab(&[script], "options use-vc", "").await;
    assert_eq!(lab.files.resolve("many.example").await.unwrap().len(), 200);
    assert!(lab.heard.lock().unwrap().iter().all(|heard| heard.3), "use-vc is TCP only");
    std::fs::write(&lab.files.resolv_conf, "nameserver 127.0.0.1\n").unwrap();
    assert_eq!(lab.files.resolve("many.example").await.unwrap().len(), 200);
    assert_eq!(lab.heard.lock().unwrap().iter().filter(|heard| heard.2 == Kind::A && heard.3).count(), 2);
}

#[tokio::test]
async fn an_answer_to_another_question_is_not_believed() {
    let script: Script = |asked, kind, mut reply| {
        if kind == Kind::Aaaa {
            return with(reply, vec![]);
        }
        reply.answers = vec![v4(asked, 66)];
        let mut forged = reply.clone();
        forged.set_id(reply.id().wrapping_add(1));
        let mut elsewhere = reply.clone();
        elsewhere.questions[0].qname = name("other.example");
        reply.answers = vec![v4(asked, 7)];
        let garbage = vec![0xff; 40];
        let messages = [forged, elsewhere, reply].map(|message| message.build_bytes_vec().unwrap());
        std::iter::once(garbage).chain(messages).collect()
    };
    let lab = lab(&[script], "", "").await;
    assert_eq!(lab.files.resolve("db.example").await, Ok(ips(&["192.0.2.7"])));
}

#[tokio::test]
async fn a_server_that_fails_or_is_silent_is_passed_over() {
    let failing: Script = |_, _, reply| saying(reply, RCODE::ServerFailure);
    let silent: Script = |_, _, _| vec![];
    let lab = lab(&[failing, silent, db_only], "", "").await;
    assert_eq!(lab.files.resolve("db.example").await.unwrap().len(), 3);
    assert_eq!(lab.files.resolve("none.example").await, Err(ResolveError::NotFound("none.example".into())));
}

const SILENT: Script = |_, _, _| vec![];

/// What a host's addresses are, and after how many milliseconds.
async fn timed(lab: &Lab, host: &str) -> (Result<Vec<IpAddr>, ResolveError>, u128) {
    let begun = tokio::time::Instant::now();
    let found = lab.files.resolve(host).await;
    (found, begun.elapsed().as_millis())
}

/// A new connection to etcd has 0.7 s in an election's calls, and what is measured here is real time.
const BRIEFLY: u128 = 600;

#[tokio::test]
async fn a_dead_first_server_leaves_time_to_connect_by_default() {
    let lab = lab_by_default(&[SILENT, db_only], "search other.example example", "").await;
    let (found, after) = timed(&lab, "db.example.").await;
    assert_eq!(found, Ok(ips(&["192.0.2.7", "192.0.2.8", "2001:db8::7"])));
    assert!(after < 400, "{after} ms");
    // Two names are asked for, and the dead server is waited for once.
    let (found, after) = timed(&lab, "db").await;
    assert_eq!(found.unwrap().len(), 3);
    assert!(after < BRIEFLY, "{after} ms");
    let (found, after) = timed(&lab, "none.example.").await;
    assert_eq!(found, Err(ResolveError::NotFound("none.example.".into())));
    assert!(after < BRIEFLY, "{after} ms");
}

#[tokio::test]
async fn two_dead_servers_before_the_third_leave_time_to_connect_by_default() {
    let lab = lab_by_default(&[SILENT, SILENT, db_only], "", "").await;
    let (found, after) = timed(&lab, "db.example").await;
    assert_eq!(found.unwrap().len(), 3);
    assert!(after < BRIEFLY, "{after} ms");
}

#[tokio::test]
async fn a_server_that_answers_late_is_believed_before_one_that_knows_no_such_name() {
    let late: Script = |asked, kind, reply| {
        let pause = if kind == Kind::A { vec![vec![]] } else { vec![] };
        [pause, db_only(asked, kind, reply)].concat()
    };
    let knows_nothing: Script = |_, _, reply| saying(reply, RCODE::NameError);
    let lab = lab_by_default(&[late, knows_nothing], "", "").await;
    assert_eq!(lab.files.resolve("db.example").await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_server_is_not_asked_oftener_than_the_config_says() {
    let lab = lab_by_default(&[SILENT, SILENT], "options timeout:1 attempts:2", "").await;
    let error = lab.files.resolve("db.example").await.unwrap_err().to_string();
    assert!(error.ends_with("doesn't answer"), "{error}");
    assert_eq!(lab.heard.lock().unwrap().len(), 2 * 2 * 2, "servers, attempts, families");
}

#[tokio::test]
async fn nobody_who_can_answer_is_an_error_that_says_so() {
    let failing: Script = |_, _, reply| saying(reply, RCODE::Refused);
    let failed = lab(&[failing], "", "").await;
    let error = failed.files.resolve("db.example").await.unwrap_err();
    assert!(error.to_string().ends_with("can't say"), "{error}");
    let nobody = Files { port: 1, ..lab(&[], "nameserver 127.0.0.1", "").await.files };
    let error = nobody.resolve("db.example").await.unwrap_err().to_string();
    assert!(error.to_lowercase().contains("connection refused"), "{error}");
}

#[tokio::test]
async fn a_server_that_never_answers_for_ipv6_costs_half_a_second_and_no_address() {
    let script: Script = |asked, kind, reply| match kind {
        Kind::A => with(reply, vec![v4(asked, 7)]),
        Kind::Aaaa => vec![],
    };
    let lab = lab(&[script], "options timeout:30 attempts:5", "").await;
    let found = timeout(Duration::from_secs(10), lab.files.resolve("db.example")).await;
    assert_eq!(found, Ok(Ok(ips(&["192.0.2.7"]))));
}

#[tokio::test]
async fn what_needs_no_server_asks_none() {
    let lab = lab(&[db_only], "", "10.0.0.9 db.example db\n").await;
    assert_eq!(lab.files.resolve("192.0.2.1").await, Ok(ips(&["192.0.2.1"])));
    assert_eq!(lab.files.resolve("::1").await, Ok(ips(&["::1"])));
    assert_eq!(lab.files.resolve("DB.example.").await, Ok(ips(&["10.0.0.9"])));
    assert_eq!(lab.files.resolve("localhost").await, Ok(ips(&["127.0.0.1", "::1"])));
    assert_eq!(lab.files.resolve("web.localhost").await, Ok(ips(&["127.0.0.1", "::1"])));
    assert!(lab.heard.lock().unwrap().is_empty());
    // A file that changed counts at the next question.
    std::fs::write(&lab.files.hosts, "10.0.0.10 db.example\n127.0.0.5 localhost\n").unwrap();
    assert_eq!(lab.files.resolve("db.example").await, Ok(ips(&["10.0.0.10"])));
    assert_eq!(lab.files.resolve("localhost").await, Ok(ips(&["127.0.0.5"])));
}

#[tokio::test]
async fn what_can_be_no_name_is_asked_of_nobody() {
    let lab = lab(&[db_only], "", "").await;
    for host in ["", ".", "a..b", "bücher.example", &"x".repeat(64), &"x.".repeat(200)] {
        let result = lab.files.resolve(host).await;
        assert!(matches!(result, Err(ResolveError::NoName(_) | ResolveError::NotFound(_))), "{host:?}: {result:?}");
    }
    let asked: Vec<String> = lab.heard.lock().unwrap().iter().map(|heard| heard.1.clone()).collect();
    assert!(asked.is_empty(), "{asked:?}");
}

proptest! {
    #[test]
    fn no_message_breaks_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..600), flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8)) {
        let mut whole = Packet::new_reply(1);
        whole.answers = vec![alias("a.example", "b.example"), v4("b.example", 1), v6("b.example", 2)];
        let mut mutated = whole.build_bytes_vec_compressed().unwrap();
        for (at, value) in flips {
            let at = at.index(mutated.len());
            mutated[at] = value;
        }
        for message in [&bytes, &mutated] {
            if let Ok(message) = Packet::parse(message) {
                exchange::addresses(&message, &name("a.example"), Kind::A);
            }
        }
    }
}
