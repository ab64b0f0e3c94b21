//! The agent's one clock and its alarm, both CLOCK_BOOTTIME: it goes on while the machine sleeps, which tokio's and
//! std's clocks don't. Beside it the calendar's, CLOCK_REALTIME, which somebody may set.

use std::io;
use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::unix::AsyncFd;

use crate::readable::{self, Readable};
use crate::supervisor::Time;
use crate::supervisor::vocabulary::Calendar;

/// What time it is.
pub fn now() -> Time {
    // CLOCK_BOOTTIME is there since Linux 2.6.39, so this can't fail; zero would only make deadlines late.
    let since_boot =
        nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
    Time::since_boot(since_boot)
}

/// When that is on the calendar, as the machine's calendar is now.
pub fn calendar(time: Time) -> SystemTime {
    let (now, today) = (now(), SystemTime::now());
    let then = if time < now { today.checked_sub(now.since(time)) } else { today.checked_add(now.until(time)) };
    then.unwrap_or(today)
}

/// How the calendar's clock goes now.
pub fn calendar_now() -> Calendar {
    // As old as CLOCK_BOOTTIME; what can't be told of it would be a date before 1970.
    let today = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let since = |time: Duration| SignedDuration::try_from(time).unwrap_or_default();
    let booted = Timestamp::from_duration(since(today)).unwrap_or_default();
    Calendar::booted_at(booted.saturating_sub(since(now().from_boot())).unwrap_or_default())
}

/// Notices that somebody sets the calendar's clock.
#[derive(Debug)]
pub struct CalendarWatch {
    timer: AsyncFd<Readable<TimerFd>>,
}

impl CalendarWatch {
    /// Needs a running tokio runtime.
    pub fn new() -> io::Result<CalendarWatch> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = readable::watch(TimerFd::new(ClockId::CLOCK_REALTIME, flags)?)?;
        let watch = CalendarWatch { timer };
        watch.arm()?;
        Ok(watch)
    }

    /// A timer that nobody waits for, but that is cancelled when the clock is set (timerfd_create(2)).
    fn arm(&self) -> io::Result<()> {
        let never = Expiration::OneShot(TimeSpec::from_duration(Duration::from_secs(u64::from(u32::MAX) * 2)));
        let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
        Ok(self.timer.get_ref().0.set(never, flags)?)
    }

    /// Waits until it is set.
    pub async fn set(&mut self) -> io::Result<()> {
        let mut ready = self.timer.readable().await?;
        // The read fails with ECANCELED, and makes the descriptor quiet again.
        let _ = ready.try_io(|timer| timer.get_ref().0.wait().map_err(io::Error::from));
        drop(ready);
        self.arm()
    }
}

/// Between two rings at times that were past already.
const REST: Duration = Duration::from_millis(1);

/// Rings at the core's next deadline. At rest it holds one timer of the kernel's and wakes nobody.
#[derive(Debug)]
pub struct Alarm {
    timer: AsyncFd<Readable<TimerFd>>,
    set: Option<Time>,
    rang: Option<Time>,
}

impl Alarm {
    /// One that is not set. Needs a running tokio runtime.
    pub fn new() -> io::Result<Alarm> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = readable::watch(TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?)?;
        Ok(Alarm { timer, set: None, rang: None })
    }

    /// Rings at this time, be it past, instead of any set before; `None`: never. At one that was past when it rang last it
    /// rings a little later: who asks for that again and again takes no whole processor.
    pub fn set(&mut self, at: Option<Time>) -> io::Result<()> {
        let rest = |at: Time| self.rang.filter(|rang| at <= *rang).map_or(at, |rang| rang + REST);
        let at = at.map(rest);
        if self.set == at {
            return Ok(());
        }
        self.set = at;
        match at {
            None => self.timer.get_ref().0.unset()?,
            Some(at) => {
                // Zero would disarm the timer (timerfd_settime(2)).
                let at = at.from_boot().max(Duration::from_nanos(1));
                let expiration = Expiration::OneShot(TimeSpec::from_duration(at));
                self.timer.get_ref().0.set(expiration, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
            }
        }
        Ok(())
    }

    /// Waits until it rings. Dropped meanwhile, it loses nothing.
    pub async fn rang(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.timer.readable().await?;
            // What `wait` reads is how often it expired.
            let read = ready.try_io(|timer| timer.get_ref().0.wait().map_err(io::Error::from));
            // Read or not, it is quiet now; left as it is it would seem to ring once more.
            ready.clear_ready();
            if read.is_ok() {
                break;
            }
        }
        self.set = None;
        self.rang = Some(now());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_time_that_stays_past_rings_no_more_often_than_a_thousand_times_a_second() {
        let (mut alarm, begun) = (Alarm::new().unwrap(), now());
        for _ in 0..21 {
            alarm.set(Some(begun)).unwrap();
            alarm.rang().await.unwrap();
        }
        assert!(now().since(begun) >= 20 * REST);
    }
}
