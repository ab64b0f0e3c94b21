//! What a sentence of the contract needs: an engine under test, agents on it, and a way to see what they see.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pilotfish::catalog::{self, Backend, Changed, ObservationSender};
use pilotfish::config::{self, AddressSpec, ConsulService, Query, Service};
use pilotfish::supervisor::vocabulary::{
    Event, Fence, Follow, Instance, KeyChange, Observation, Registration, ServiceStatus, Value,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// An engine under test, for one test. Dropping it leaves nothing behind.
pub trait Bench: Sized {
    /// A fresh and empty one.
    fn start() -> impl Future<Output = Self>;

    /// What an agent on it is configured with, as a word that [`agent_on`] understands: it is given to processes.
    fn address(&self) -> String;

    /// The same for somebody who may write keys, which agents need not be allowed.
    fn address_of_a_writer(&self) -> String {
        self.address()
    }

    /// How long an instance may be seen after its agent was killed.
    fn gone_within(&self) -> Duration;

    /// Removes an instance's entry behind its agent's back.
    fn delete_entry(&self, service: &Service) -> impl Future<Output = ()>;

    /// Makes the engine unable to answer questions about this service.
    fn cut(&self, service: &str) -> impl Future<Output = ()>;

    /// How many reasons it may give for that, one after the other.
    fn reasons(&self) -> usize {
        1
    }

    /// Ends what [`cut`](Self::cut) began.
    fn mend(&self, service: &str) -> impl Future<Output = ()>;
}

/// How long anything may take that isn't about a death.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// One agent's end of the catalog.
#[derive(Clone)]
pub struct Agent {
    pub backend: Arc<Backend>,
}

/// An agent on the engine at an address.
pub fn agent_on(address: &str) -> Agent {
    let backend = match address.split_once('=') {
        Some(("local", directory)) => config::Backend::Local { directory: directory.into(), shared: true },
        Some((engine, place)) => super::backends::backend(engine, place)
            .or_else(|| super::secured::backend(engine, place))
            .unwrap_or_else(|| panic!("no engine is called {address:?}")),
        None => panic!("no engine is called {address:?}"),
    };
    let config = config::Catalog { backend, prefix: config::DEFAULT_PREFIX.to_owned() };
    Agent { backend: Arc::new(Backend::open(&config).expect("the config is right")) }
}

/// A service named `name` with this id, at 192.0.2.1 and a port.
pub fn service(name: &str, id: &str) -> Service {
    Service {
        name: name.to_owned(),
        id: id.to_owned(),
        port: 8000,
        of: Default::default(),
        tags: Vec::new(),
        meta: BTreeMap::new(),
        address: vec![AddressSpec::Static(IpAddr::from([192, 0, 2, 1]))],
        ttl: Duration::from_secs(10),
        consul: ConsulService { enable_tag_override: false, deregister_critical_after: None },
    }
}

/// The passing instances of a service.
pub fn instances_of(name: &str) -> Query {
    Query::Service { name: name.to_owned(), tag: None, datacenter: None }
}

/// Those with a tag.
pub fn tagged(name: &str, tag: &str) -> Query {
    Query::Service { name: name.to_owned(), tag: Some(tag.to_owned()), datacenter: None }
}

impl Agent {
    pub async fn publish(&self, service: &Service, status: ServiceStatus, note: &str) {
        self.try_publish(service, status, note).await.expect("published");
    }

    pub async fn try_publish(&self, service: &Service, status: ServiceStatus, note: &str) -> Result<(), String> {
        let registration =
            Registration { service: Arc::new(service.clone()), status, note: note.to_owned(), maintenance: None };
        let published = timeout(PATIENCE, self.backend.publish(&registration)).await.expect("an answer");
        published.map(drop).map_err(|e| pilotfish::catalog::report(&e))
    }

    pub async fn maintain(&self, service: &Service, status: ServiceStatus, reason: &str) {
        let maintenance = Some(reason.to_owned());
        let registration = Registration { service: Arc::new(service.clone()), status, note: "ok".into(), maintenance };
        let published = timeout(PATIENCE, self.backend.publish(&registration)).await.expect("an answer");
        published.expect("published");
    }

    pub async fn pass(&self, service: &Service) {
        self.publish(service, ServiceStatus::Passing, "ok").await;
    }

    pub async fn withdraw(&self, service: &Service) {
        timeout(PATIENCE, self.backend.withdraw(service)).await.expect("an answer").expect("withdrawn");
    }

    pub async fn put(&self, key: &str, value: &str) {
        assert_eq!(self.change(key, &KeyChange::Put(bytes(value)), None).await, Changed::Done);
    }

    pub async fn change(&self, key: &str, change: &KeyChange, fence: Option<&Fence>) -> Changed {
        timeout(PATIENCE, self.backend.change(key, change, fence)).await.expect("an answer").expect("written")
    }

    pub async fn get(&self, key: &str) -> Option<String> {
        let value = timeout(PATIENCE, self.backend.get(key)).await.expect("an answer").expect("read");
        value.map(|value| String::from_utf8(value).expect("text"))
    }

    pub async fn delete(&self, key: &str) {
        assert_eq!(self.change(key, &KeyChange::Delete, None).await, Changed::Done);
    }

    pub fn follow(&self, query: Query) -> Follower {
        self.follow_slowly(query, 64)
    }

    /// With room for so many observations that nobody has looked at yet.
    pub fn follow_slowly(&self, query: Query, room: usize) -> Follower {
        let (sender, seen) = mpsc::channel(room);
        let backend = Arc::clone(&self.backend);
        let sightings = ObservationSender::new(sender, Follow::Watch("test".to_owned()));
        // tokio::spawn proves on the way that following is Send.
        let task = tokio::spawn(async move { backend.follow(&query, sightings).await });
        Follower { seen, task }
    }
}

/// What one follower sees.
pub struct Follower {
    seen: mpsc::Receiver<Event>,
    task: JoinHandle<()>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Follower {
    /// The next thing told.
    pub async fn told(&mut self) -> Result<Observation, String> {
        self.told_within(PATIENCE).await
    }

    pub async fn told_within(&mut self, patience: Duration) -> Result<Observation, String> {
        let (follow, seen) = loop {
            let event = timeout(patience, self.seen.recv()).await.expect("something is seen in time");
            match event.expect("a follower doesn't end by itself") {
                Event::Observed { follow, seen } => break (follow, seen),
                Event::SeenAnew { .. } => {}
                other => panic!("not an observation: {other:?}"),
            }
        };
        assert_eq!(follow, Follow::Watch("test".to_owned()));
        seen
    }

    /// The next instances told.
    pub async fn instances(&mut self) -> Vec<Instance> {
        instances(self.told().await)
    }

    /// The ids of the next instances told.
    pub async fn ids(&mut self) -> Vec<String> {
        self.instances().await.into_iter().map(|i| i.id).collect()
    }

    /// The next value of a key told.
    pub async fn value(&mut self) -> Option<String> {
        match self.told().await {
            Ok(Observation::Key(value)) => value,
            other => panic!("not a key: {other:?}"),
        }
    }

    /// The next keys told.
    pub async fn keys(&mut self) -> Vec<(String, String)> {
        match self.told().await {
            Ok(Observation::Keys(keys)) => keys.to_vec(),
            other => panic!("not keys: {other:?}"),
        }
    }

    /// Everything told until these ids are seen; the last one is that.
    pub async fn until_ids(&mut self, ids: &[&str], patience: Duration) -> Vec<Vec<Instance>> {
        let mut all = Vec::new();
        timeout(patience, async {
            loop {
                let now = instances(self.told_within(patience).await);
                let reached = now.iter().map(|i| i.id.as_str()).eq(ids.iter().copied());
                all.push(now);
                if reached {
                    break;
                }
            }
        })
        .await
        .unwrap_or_else(|_| panic!("{ids:?} are seen in time"));
        all
    }

    /// Everything told so far.
    pub fn rest(&mut self) -> usize {
        std::iter::from_fn(|| self.seen.try_recv().ok()).count()
    }
}

fn instances(seen: Result<Observation, String>) -> Vec<Instance> {
    match seen {
        Ok(Observation::Instances(instances)) => instances.to_vec(),
        other => panic!("not instances: {other:?}"),
    }
}

/// Runs a sentence as the agent would: one thread.
pub fn run<B: Bench>(sentence: impl AsyncFnOnce(&B)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let bench = B::start().await;
        sentence(&bench).await;
    });
}

/// Keys whose values are text.
pub trait TextKeys {
    fn put(&self, key: &str, value: &str) -> impl Future<Output = Result<Changed, catalog::Error>>;
    fn delete(&self, key: &str) -> impl Future<Output = Result<Changed, catalog::Error>>;
}

impl TextKeys for Backend {
    async fn put(&self, key: &str, value: &str) -> Result<Changed, catalog::Error> {
        self.change(key, &KeyChange::Put(bytes(value)), None).await
    }

    async fn delete(&self, key: &str) -> Result<Changed, catalog::Error> {
        self.change(key, &KeyChange::Delete, None).await
    }
}

/// A value.
pub fn bytes(value: impl AsRef<[u8]>) -> Value {
    Value(value.as_ref().into())
}
