//! An election's lock in Consul.

use std::time::Duration;

use crate::catalog::election::{Contest, Views, Wanted};
use crate::supervisor::election::fact::{Acquisition, Id, Renewal};
use crate::supervisor::election::record::{Guarantee, SessionId, Term, Version, View};

use super::{Consul, Error};

impl Consul {
    /// See [`Candidacy::open`](crate::catalog::election::Candidacy::open).
    pub async fn open_session(&self, _contest: &Contest) -> Result<(SessionId, Guarantee), Error> {
        unimplemented!()
    }

    /// See [`Candidacy::close`](crate::catalog::election::Candidacy::close).
    pub async fn close_session(&self, _session: SessionId) -> Result<(), Error> {
        unimplemented!()
    }

    /// See [`Candidacy::look`](crate::catalog::election::Candidacy::look).
    pub async fn look(&self, _election: &str) -> Result<View, Error> {
        unimplemented!()
    }

    /// See [`Candidacy::acquire`](crate::catalog::election::Candidacy::acquire).
    pub async fn acquire(&self, _contest: &Contest, _wanted: Wanted) -> Result<Acquisition, Error> {
        unimplemented!()
    }

    /// See [`Candidacy::renew`](crate::catalog::election::Candidacy::renew).
    pub async fn renew(&self, _contest: &Contest, _session: SessionId, _term: Term) -> Result<Renewal, Error> {
        unimplemented!()
    }

    /// See [`Candidacy::release`](crate::catalog::election::Candidacy::release).
    pub async fn release(
        &self,
        _contest: &Contest,
        _session: SessionId,
        _term: Term,
        _to: Option<Id>,
        _owed: Duration,
    ) -> Result<(), Error> {
        unimplemented!()
    }

    /// See [`Candidacy::publish_rank`](crate::catalog::election::Candidacy::publish_rank).
    pub async fn publish_rank(&self, _contest: &Contest, _vacancy: Version, _rank: i64) -> Result<(), Error> {
        unimplemented!()
    }

    /// See [`Candidacy::ranks`](crate::catalog::election::Candidacy::ranks).
    pub async fn ranks(&self, _election: &str, _vacancy: Version) -> Result<Vec<(Id, i64)>, Error> {
        unimplemented!()
    }

    /// See [`Candidacy::watch`](crate::catalog::election::Candidacy::watch).
    pub async fn watch_lock(&self, _election: &str, _views: &mut Views) {
        unimplemented!()
    }
}
