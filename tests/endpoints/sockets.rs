//! Our own endpoints on real sockets: what they tell, what they take, and what nobody can do to them.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use hyper::Method;
use pilotfish::config::{Control, ControlListen};
use pilotfish::endpoints::{ControlRequest, Endpoint, Handle, Question, client, control, telemetry};
use pilotfish::supervisor::Status;
use pilotfish::supervisor::vocabulary::{Answer, CheckStatus, Phase, Request};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;

const SOON: Duration = Duration::from_secs(10);

struct Agent {
    status: watch::Sender<Status>,
    asked: mpsc::Receiver<ControlRequest>,
    endpoint: Endpoint,
}

fn agent() -> Agent {
    let (status, told) = watch::channel(running());
    let (ask, asked) = mpsc::channel(4);
    Agent { status, asked, endpoint: Endpoint::new(told, ask) }
}

fn running() -> Status {
    let mut status = Status { phase: Phase::Running, ..Status::default() };
    status.main.pid = Some(7);
    status
}

fn listening(agent: &Agent) -> (Handle, SocketAddr) {
    let any = "127.0.0.1:0".parse().unwrap();
    let handle = telemetry::open(any, agent.endpoint.clone()).unwrap();
    let address = handle.local_addr().unwrap();
    (handle, address)
}

fn socket_at(path: &Path) -> Control {
    Control { socket: Some(path.to_owned()), listen: None, signals: false }
}

/// Sends bytes and reads until the endpoint closes the connection.
async fn raw(address: SocketAddr, request: impl Into<Vec<u8>>) -> String {
    let request = request.into();
    spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        // The endpoint may close before it has read everything.
        let _ = stream.write_all(&request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    })
    .await
    .unwrap()
}

async fn get(address: SocketAddr, path: &str) -> String {
    raw(address, format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await
}

fn code(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: {answer:?}")).parse().unwrap()
}

#[tokio::test]
async fn the_read_only_door_tells_everything_and_takes_nothing() {
    let mut agent = agent();
    let (_door, address) = listening(&agent);
    assert!(get(address, "/").await.contains("text/html"));
    assert!(get(address, "/metrics").await.contains("\npilotfish_main_up 1\n"));
    let status = get(address, "/status").await;
    let json: serde_json::Value = serde_json::from_str(status.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(json["main"]["pid"], 7);
    assert_eq!(code(&get(address, "/livez").await), 200);
    assert_eq!(code(&get(address, "/readyz").await), 200);
    assert_eq!(code(&get(address, "/nothing").await), 404);
    // The record is for who may order, too.
    assert_eq!(code(&get(address, "/record").await), 404);
    for path in ["/stop", "/reload"] {
        let answer = raw(address, format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")).await;
        assert_eq!(code(&answer), 404, "{path}");
    }
    assert_eq!(code(&raw(address, "DELETE /status HTTP/1.1\r\nHost: x\r\n\r\n").await), 405);
    assert!(agent.asked.try_recv().is_err(), "nothing was ordered");
}

#[tokio::test]
async fn readyz_says_what_is_missing() {
    let agent = agent();
    let (_door, address) = listening(&agent);
    let mut status = Status { doing: "waiting for service storage".into(), ..Status::default() };
    agent.status.send(status.clone()).unwrap();
    let answer = get(address, "/readyz").await;
    assert_eq!(code(&answer), 503);
    assert!(answer.contains("starting: waiting for service storage"), "{answer}");

    status = running();
    let note = "connection refused".to_owned();
    status.health.push(CheckStatus { name: "ping".into(), counts: true, note, failed: 1, ..CheckStatus::default() });
    agent.status.send(status).unwrap();
    let answer = get(address, "/readyz").await;
    assert_eq!(code(&answer), 503);
    assert!(answer.contains("check ping fails: connection refused"), "{answer}");
}

#[tokio::test]
async fn livez_notices_that_the_loop_is_gone() {
    let agent = agent();
    let (_door, address) = listening(&agent);
    drop(agent.status);
    assert_eq!(code(&get(address, "/livez").await), 503);
}

#[tokio::test]
async fn a_page_with_foreign_text_is_no_script() {
    let agent = agent();
    let (_door, address) = listening(&agent);
    let mut status = running();
    let note = "<script>alert(1)</script>".to_owned();
    status.health.push(CheckStatus { name: "ping".into(), counts: true, note, failed: 1, ..CheckStatus::default() });
    agent.status.send(status).unwrap();
    let page = get(address, "/").await;
    assert!(page.contains("&lt;script&gt;") && !page.contains("<script>"), "{page}");
}

#[tokio::test]
async fn idle_connections_do_not_keep_a_probe_out() {
    let agent = agent();
    let (_door, address) = listening(&agent);
    let idle = spawn_blocking(move || {
        let connect = |_| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"GET /livez HT").unwrap();
            stream
        };
        (0..200).map(connect).collect::<Vec<_>>()
    });
    let _idle = idle.await.unwrap();
    assert_eq!(code(&get(address, "/livez").await), 200);
}

#[tokio::test]
async fn a_head_that_never_ends_in_time_or_in_length_is_cut_off() {
    let agent = agent();
    let (_door, address) = listening(&agent);
    let endless = format!("GET /livez HTTP/1.1\r\n{}", "X-More: and more\r\n".repeat(10_000));
    let answer = raw(address, endless).await;
    assert!(answer.is_empty() || code(&answer) == 431, "{answer}");
    let slow = tokio::time::timeout(Duration::from_secs(9), raw(address, "GET /livez HT")).await;
    let answer = slow.expect("the endpoint ends it after 5 s");
    assert!(answer.is_empty() || code(&answer) == 408, "{answer}");
}

#[tokio::test]
async fn what_is_no_http_gets_no_further() {
    let agent = agent();
    let (_door, address) = listening(&agent);
    let answer = raw(address, vec![0x16, 3, 1, 0, 200, 0, 0, b'\r', b'\n', b'\r', b'\n']).await;
    assert!(answer.is_empty() || code(&answer) == 400, "{answer}");
    assert_eq!(code(&get(address, "/livez").await), 200);
}

#[tokio::test]
async fn a_shut_door_frees_its_address_at_once() {
    let agent = agent();
    let (endpoint, address) = listening(&agent);
    drop(endpoint);
    let again = telemetry::open(address, agent.endpoint.clone());
    assert_eq!(again.unwrap().local_addr(), Some(address));
}

#[tokio::test]
async fn an_order_at_the_control_door_reaches_the_loop_and_its_answer_the_asker() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let mut agent = agent();
    let _door = control::open(&socket_at(&path), agent.endpoint.clone()).unwrap().unwrap();
    let loop_ = tokio::spawn(async move {
        let asked = agent.asked.recv().await.unwrap();
        assert_eq!(asked.question, Question::Order(Request::Reload));
        asked.answer.send(Answer::Refused("line 3: no such key".into())).unwrap();
        let asked = agent.asked.recv().await.unwrap();
        assert_eq!(asked.question, Question::Order(Request::Stop));
        asked.answer.send(Answer::Done("stopping".into())).unwrap();
        agent
    });
    let refused = client::ask(&path, Method::POST, "/reload", SOON).await.unwrap();
    assert_eq!((refused.status.as_u16(), refused.body.as_str()), (422, "line 3: no such key\n"));
    let done = client::ask(&path, Method::POST, "/stop", SOON).await.unwrap();
    assert_eq!((done.status.as_u16(), done.body.as_str()), (200, "stopping\n"));
    let agent = loop_.await.unwrap();
    // An order is no page: a browser, a crawler or a typo must not stop a container.
    assert_eq!(client::ask(&path, Method::GET, "/stop", SOON).await.unwrap().status, 405);
    assert_eq!(client::ask(&path, Method::GET, "/readyz", SOON).await.unwrap().status, 200);
    drop(agent.asked);
    assert_eq!(client::ask(&path, Method::POST, "/stop", SOON).await.unwrap().status, 503);
}

#[tokio::test]
async fn a_body_beyond_every_order_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let mut agent = agent();
    let _door = control::open(&socket_at(&path), agent.endpoint.clone()).unwrap().unwrap();
    let answer = spawn_blocking(move || {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.set_write_timeout(Some(SOON)).unwrap();
        write!(stream, "POST /stop HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n").unwrap();
        while stream.write_all(&[b'x'; 8192]).is_ok() {}
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    });
    let answer = answer.await.unwrap();
    assert!(answer.is_empty() || code(&answer) == 413, "{answer}");
    assert!(agent.asked.try_recv().is_err());
}

#[tokio::test]
async fn the_control_socket_is_its_owners_alone_and_leaves_with_the_agent() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let agent = agent();
    let endpoint = control::open(&socket_at(&path), agent.endpoint.clone()).unwrap().unwrap();
    let metadata = fs::metadata(&path).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    drop(endpoint);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_socket_nobody_answers_at_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "as after SIGKILL");
    let agent = agent();
    let _door = control::open(&socket_at(&path), agent.endpoint.clone()).unwrap().unwrap();
    assert_eq!(client::ask(&path, Method::GET, "/livez", SOON).await.unwrap().status, 200);
}

#[tokio::test]
async fn another_agents_socket_and_files_that_are_none_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let (first, second) = (agent(), agent());
    let endpoint = control::open(&socket_at(&path), first.endpoint.clone()).unwrap().unwrap();
    assert!(control::open(&socket_at(&path), second.endpoint.clone()).unwrap().is_none());
    assert_eq!(client::ask(&path, Method::GET, "/livez", SOON).await.unwrap().status, 200);
    // Moved away and another's put there: not ours to remove any more.
    fs::remove_file(&path).unwrap();
    let _others = UnixListener::bind(&path).unwrap();
    drop(endpoint);
    assert!(path.exists());

    let file = dir.path().join("precious");
    fs::write(&file, "data").unwrap();
    let _door = control::open(&socket_at(&file), second.endpoint.clone()).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "data");
    assert_eq!(client::ask(&file, Method::GET, "/livez", SOON).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_socket_that_cannot_be_a_file_is_an_abstract_one_that_its_clients_find() {
    let dir = tempfile::tempdir().unwrap();
    let long = dir.path().join("x".repeat(200));
    for path in [dir.path().join("missing/control.sock"), format!("/proc/{}.sock", std::process::id()).into(), long] {
        let agent = agent();
        let endpoint = control::open(&socket_at(&path), agent.endpoint.clone()).unwrap();
        assert!(endpoint.is_some(), "{}", path.display());
        assert_eq!(client::ask(&path, Method::GET, "/livez", SOON).await.unwrap().status, 200);
        drop(endpoint);
        let gone = client::ask(&path, Method::GET, "/livez", SOON).await;
        assert!(matches!(gone, Err(client::ClientError::Unreachable { .. })), "{gone:?}");
    }
    let off = Control { socket: None, listen: None, signals: false };
    assert!(control::open(&off, agent().endpoint.clone()).unwrap().is_none());
}

/// Becomes another user.
#[allow(unsafe_code)]
fn as_a_third() {
    const KEEP: libc::uid_t = libc::uid_t::MAX;
    // SAFETY: the raw call changes this thread alone.
    assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, KEEP, 65534, KEEP) }, 0);
}

/// Listens at a path as another user, who may do so.
fn planted(path: &Path) -> UnixListener {
    let path = path.to_owned();
    let listen = move || {
        as_a_third();
        UnixListener::bind(path).unwrap()
    };
    std::thread::spawn(listen).join().unwrap()
}

#[tokio::test]
async fn who_may_not_ask_at_the_abstract_socket_is_told_so() {
    let path = tempfile::tempdir().unwrap().path().join("missing/control.sock");
    let agent = agent();
    let _door = control::open(&socket_at(&path), agent.endpoint.clone()).unwrap().unwrap();
    let ask = move || {
        as_a_third();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(client::ask(&path, Method::GET, "/livez", SOON)).unwrap_err().to_string()
    };
    let said = tokio::task::spawn_blocking(move || std::thread::spawn(ask).join().unwrap()).await.unwrap();
    assert!(said.ends_with("where it answers root and its own user (0) alone: this is user 65534"), "{said}");
}

#[tokio::test]
async fn an_agent_of_another_user_that_has_no_socket_file_is_named_with_that_user() {
    let path = tempfile::tempdir().unwrap().path().join("missing/control.sock");
    let agent = agent();
    let (socket, endpoint) = (socket_at(&path), agent.endpoint.clone());
    let runtime = tokio::runtime::Handle::current();
    let opened = move || {
        as_a_third();
        let _entered = runtime.enter();
        control::open(&socket, endpoint).unwrap().unwrap()
    };
    let _door = tokio::task::spawn_blocking(move || std::thread::spawn(opened).join().unwrap()).await.unwrap();
    let answer = client::ask(&path, Method::GET, "/livez", SOON).await;
    let Err(error @ client::ClientError::Another { .. }) = answer else { panic!("{answer:?}") };
    assert!(error.to_string().ends_with("ask as user 65534"), "{error}");
}

#[tokio::test]
async fn who_listens_in_the_agents_place_is_not_asked_and_the_agent_is_found_beside_them() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let path = dir.path().join("control.sock");
    let planted = planted(&path);
    let answer = client::ask(&path, Method::POST, "/stop", SOON).await;
    let Err(error @ client::ClientError::Stranger { .. }) = answer else { panic!("{answer:?}") };
    assert!(error.to_string().starts_with("user 65534 (process "), "{error}");
    planted.set_nonblocking(true).unwrap();
    let (mut heard, mut said) = (planted.accept().unwrap().0, Vec::new());
    std::io::Read::read_to_end(&mut heard, &mut said).unwrap();
    assert!(said.is_empty(), "not a byte was sent");

    let agent = agent();
    let _door = control::open(&socket_at(&path), agent.endpoint.clone()).unwrap().unwrap();
    assert_eq!(client::ask(&path, Method::GET, "/livez", SOON).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_control_socket_that_is_replaced_or_removed_is_had_again() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let path = dir.path().join("control.sock");
    let agent = agent();
    let endpoint = control::open(&socket_at(&path), agent.endpoint.clone()).unwrap().unwrap();
    // A volume that somebody tidied up.
    fs::remove_file(&path).unwrap();
    answers_again(&path).await;
    assert!(path.exists());
    // Another user listened there, and has ended: who asks waits until the agent has noticed.
    fs::remove_file(&path).unwrap();
    drop(planted(&path));
    assert_eq!(client::ask(&path, Method::GET, "/livez", SOON).await.unwrap().status, 200);
    // Another user listens there: the agent is found beside him.
    fs::remove_file(&path).unwrap();
    let _planted = planted(&path);
    answers_again(&path).await;
    drop(endpoint);
    assert!(client::ask(&path, Method::GET, "/livez", SOON).await.is_err());
}

/// By who may write in its directory: a link to where they may put nothing, or to itself.
#[tokio::test]
async fn a_link_in_the_place_of_the_control_socket_hides_no_agent() {
    for target in ["/proc/1/root", "control.sock"] {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let path = dir.path().join("control.sock");
        let agent = agent();
        let _endpoint = control::open(&socket_at(&path), agent.endpoint.clone()).unwrap().unwrap();
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(target, &path).unwrap();
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::lchown(&path, Some(65534), Some(65534)).unwrap();
        }
        answers_again(&path).await;
    }
}

#[tokio::test]
async fn a_control_socket_that_somebody_keeps_removing_is_an_abstract_one_from_then_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let agent = agent();
    let _endpoint = control::open(&socket_at(&path), agent.endpoint.clone()).unwrap().unwrap();
    for _ in 0..2 {
        fs::remove_file(&path).unwrap();
        answers_again(&path).await;
    }
    assert!(!path.exists());
}

#[tokio::test]
async fn one_that_listens_and_never_accepts_keeps_no_agent_from_being_found() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let path = dir.path().join("control.sock");
    let full = |listener: UnixListener| {
        // From now on its queue is full: who isn't accepted waits for ever, or is told so.
        nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
        let waiting = std::os::unix::net::UnixStream::connect(&path).unwrap();
        (listener, waiting)
    };
    // Before the agent starts, and in its socket's place.
    let before = full(planted(&path));
    let first = agent();
    let endpoint = control::open(&socket_at(&path), first.endpoint.clone()).unwrap().expect("an abstract socket");
    answers_again(&path).await;
    drop((before, endpoint));
    fs::remove_file(&path).unwrap();

    let second = agent();
    let _endpoint = control::open(&socket_at(&path), second.endpoint.clone()).unwrap().unwrap();
    fs::remove_file(&path).unwrap();
    // One that may be another agent keeps it as long as it is there.
    let other = full(UnixListener::bind(&path).unwrap());
    tokio::time::sleep(Duration::from_secs(5)).await;
    drop(other);
    fs::remove_file(&path).unwrap();
    answers_again(&path).await;
    fs::remove_file(&path).unwrap();
    let _theirs = full(planted(&path));
    answers_again(&path).await;
}

/// The agent looks each two seconds.
async fn answers_again(path: &Path) {
    let asked = async {
        loop {
            match client::ask(path, Method::GET, "/livez", SOON).await {
                Ok(reply) => return reply.status,
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(60), asked).await.unwrap(), 200);
}

#[tokio::test]
async fn by_somebodys_link_the_client_speaks_to_no_other_socket_of_roots() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (ours, theirs) = (dir.path().join("ours.sock"), dir.path().join("theirs"));
    let roots = UnixListener::bind(&ours).unwrap();
    fs::create_dir(&theirs).unwrap();
    std::os::unix::fs::chown(&theirs, Some(65534), Some(65534)).unwrap();
    let link = theirs.join("control.sock");
    std::os::unix::fs::symlink(&ours, &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(65534), Some(65534)).unwrap();
    let answer = client::ask(&link, Method::POST, "/stop", SOON).await;
    assert!(matches!(answer, Err(client::ClientError::Unreachable { .. })), "{answer:?}");
    roots.set_nonblocking(true).unwrap();
    assert!(roots.accept().is_err(), "nobody came");
}

#[tokio::test]
async fn the_client_gives_up_on_an_agent_that_never_answers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    assert!(matches!(
        client::ask(&path, Method::GET, "/status", SOON).await,
        Err(client::ClientError::Unreachable { .. })
    ));
    let _silent = UnixListener::bind(&path).unwrap();
    let answer = client::ask(&path, Method::GET, "/status", Duration::from_millis(50)).await;
    assert!(matches!(answer, Err(client::ClientError::TooLate(_))), "{answer:?}");
}

#[tokio::test]
async fn over_tcp_orders_are_taken_from_whoever_brings_the_token_and_nothing_is_told_to_others() {
    let mut agent = agent();
    let dir = tempfile::tempdir().unwrap();
    let token_file = dir.path().join("token");
    fs::write(&token_file, "s3cret\n").unwrap();
    let listen = ControlListen { at: "127.0.0.1:0".parse().unwrap(), token_file: token_file.clone() };
    let handle = control::open_tcp(&listen, agent.endpoint.clone()).unwrap();
    let address = handle.local_addr().unwrap();
    let orders = |token: &str| {
        raw(address, format!("POST /restart?name=agent HTTP/1.1\r\nHost: x\r\n{token}Content-Length: 0\r\n\r\n"))
    };
    for token in ["", "Authorization: Bearer wrong\r\n", "Authorization: s3cret\r\n"] {
        let answer = orders(token).await;
        assert!(code(&answer) == 401 && answer.to_lowercase().contains("www-authenticate: bearer"), "{answer}");
    }
    for path in ["/", "/status", "/metrics", "/record", "/livez", "/none"] {
        assert_eq!(code(&get(address, path).await), 401, "{path}");
    }
    assert!(agent.asked.try_recv().is_err(), "somebody without the token was heard");

    let brings = "Authorization: Bearer s3cret\r\n";
    let asked = tokio::spawn(async move {
        let ControlRequest { question, answer } = agent.asked.recv().await.unwrap();
        assert_eq!(question, Question::Order(Request::Restart { name: Some("agent".to_owned()) }));
        answer.send(Answer::Done("agent runs again".to_owned())).unwrap();
        agent
    });
    let answer = orders(brings).await;
    assert!(code(&answer) == 200 && answer.ends_with("agent runs again\n"), "{answer}");
    let _agent = asked.await.unwrap();
    // Another token counts at once, and without one nobody gets in.
    fs::write(&token_file, "other").unwrap();
    assert_eq!(code(&orders(brings).await), 401);
    fs::remove_file(&token_file).unwrap();
    assert_eq!(code(&orders(brings).await), 503);
}
