//! Walking one branch of a plan, page by page.

use super::Query;
use super::index::{Definition, Known};
use super::key::{Interval, KEEP, behind, is_cut};
use super::plan::{Branch, Source};
use crate::reads::Read;
use crate::status;
use prost::Message;
use std::collections::{HashSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use tonic::Status;
use whimbrel_firestore::backend::{Along, Line, Stored, Walk};
use whimbrel_firestore::{Micros, Place, View};

/// Lines of a page: at first, when nothing is known of the documents' sizes, and at most.
const FIRST_PAGE: u32 = 16;
const PAGE: u32 = 256;
/// About so many bytes of documents make a page (of all walkers of a query together).
const PAGE_BYTES: usize = 4 << 20;

/// How many documents are read at once: few at first, when nothing is known of their sizes, and more while they are
/// small.
#[derive(Clone, Copy, Debug)]
pub struct Paging {
    page: u32,
    most: u32,
    /// Among how many memory is shared.
    share: u32,
}

impl Default for Paging {
    fn default() -> Self {
        Self::new(PAGE, 1)
    }
}

impl Paging {
    #[must_use]
    pub fn new(most: u32, share: u32) -> Self {
        let share = share.max(1);
        Self {
            page: (FIRST_PAGE / share).max(2),
            most,
            share,
        }
    }

    #[must_use]
    pub fn limit(&self) -> u32 {
        self.page
    }

    /// The bytes of the documents of the last page; some will do.
    pub fn read(&mut self, sizes: impl IntoIterator<Item = usize>) {
        let largest = sizes.into_iter().max().unwrap_or(0).max(1);
        let fit = u32::try_from(PAGE_BYTES / largest).unwrap_or(u32::MAX);
        self.page = (self.page * 4).min(self.most.min(fit) / self.share).max(2);
    }
}

/// What a query cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    pub lines: u64,
    pub documents: u64,
}

/// Where a query's documents come from.
pub struct Reader<'a> {
    pub view: &'a dyn View,
    pub at: Option<Micros>,
    pub query: &'a Query,
    /// Documents that the view shows as others made them after every time that can be read at, whatever times they say.
    pub late: &'a HashSet<Place>,
}

impl<'a> Reader<'a> {
    #[must_use]
    pub fn new(read: &'a Read, query: &'a Query, late: &'a HashSet<Place>) -> Self {
        Self {
            view: &*read.view,
            at: read.at,
            query,
            late,
        }
    }

    /// Whether the document as it is now was the same at the time of the read.
    pub fn shows(&self, place: &Place, stored: &Stored) -> bool {
        self.at
            .is_none_or(|at| stored.updated <= at && !self.late.contains(place))
    }
}

/// The documents of one branch that match the whole query, in its order.
pub struct Walker {
    exact: bool,
    descending: bool,
    along: Option<(Along, Option<Arc<Definition>>)>,
    /// What is left to be walked, in the order of walking.
    left: VecDeque<Interval>,
    named: VecDeque<Place>,
    /// Lines whose cut keys begin alike, when there are more of them than fit a page.
    run: Option<Run>,
    paging: Paging,
    pub buffer: VecDeque<(Place, Stored)>,
}

struct Run {
    prefix: Vec<u8>,
    last: Option<(Place, Stored)>,
}

impl Walker {
    /// `None` where the branch's index is not ready. `walkers` is how many there are in the query.
    #[must_use]
    pub fn new(branch: &Branch, known: &Known, walkers: usize) -> Option<Self> {
        let along = match &branch.source {
            Source::Index(definition) => {
                let index = known
                    .over(&definition.over)
                    .find(|index| index.ready && index.definition == *definition)?;
                Some((Along::Index(index.id), Some(definition.clone())))
            }
            Source::Keys(collection) => Some((Along::Collection(collection.clone()), None)),
            Source::Named(_) => None,
        };
        let named = match &branch.source {
            Source::Named(paths) => paths
                .iter()
                .filter_map(|path| Place::of_path(path))
                .collect(),
            _ => VecDeque::new(),
        };
        let mut left: VecDeque<Interval> = branch.intervals.0.clone().into();
        if branch.descending {
            left.make_contiguous().reverse();
        }
        let share = u32::try_from(walkers).unwrap_or(u32::MAX);
        Some(Self {
            exact: branch.exact,
            descending: branch.descending,
            along,
            left,
            named,
            run: None,
            paging: Paging::new(PAGE, share),
            buffer: VecDeque::new(),
        })
    }

    /// Whether the buffer is all there is.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.left.is_empty() && self.named.is_empty() && self.run.is_none()
    }

    /// Reads on until the buffer holds something, or the end. `wanted` says how many documents are needed at most.
    ///
    /// # Errors
    /// The store fails.
    pub async fn fill(
        &mut self,
        reader: &Reader<'_>,
        wanted: Option<u32>,
        stats: &mut Stats,
    ) -> Result<(), Status> {
        while self.buffer.is_empty() && !self.is_ended() {
            if self.run.is_some() {
                self.fill_from_run(reader, stats).await?;
            } else if self.named.is_empty() {
                self.fill_from_lines(reader, wanted, stats).await?;
            } else {
                self.fill_from_names(reader, stats).await?;
            }
        }
        Ok(())
    }

    async fn fill_from_names(
        &mut self,
        reader: &Reader<'_>,
        stats: &mut Stats,
    ) -> Result<(), Status> {
        let most = self.named.len().min(FIRST_PAGE as usize);
        // What is asked for by name may be anywhere, also where no document can be.
        let places: Vec<Place> = self
            .named
            .drain(..most)
            .filter(|place| reader.query.covers(&place.collection))
            .collect();
        let found = reader
            .view
            .get(&places, None)
            .await
            .map_err(status::of_store)?;
        for (place, stored) in places.into_iter().zip(found) {
            let Some(stored) = stored else { continue };
            stats.documents += 1;
            if reader.shows(&place, &stored) && reader.query.matches(&place, &stored) {
                self.buffer.push_back((place, stored));
            }
        }
        Ok(())
    }

    async fn fill_from_lines(
        &mut self,
        reader: &Reader<'_>,
        wanted: Option<u32>,
        stats: &mut Stats,
    ) -> Result<(), Status> {
        let Some(interval) = self.left.front() else {
            return Ok(());
        };
        let page = self.paging.limit();
        let limit = match wanted {
            Some(wanted) if self.exact => page.min(wanted.max(1)),
            Some(wanted) => page.min(wanted.saturating_add(8)),
            None => page,
        };
        let Some(walk) = self.walk(interval, limit) else {
            self.left.pop_front();
            return Ok(());
        };
        let mut lines = reader.view.walk(&walk).await.map_err(status::of_store)?;
        let is_last = lines.len() < limit as usize;
        if !is_last && let Some(start) = open_run(&lines) {
            if start == 0 {
                let prefix = lines[0].key[..KEEP].to_vec();
                self.run = Some(Run { prefix, last: None });
                return Ok(());
            }
            // The run is read anew with the next page, which it may fit.
            lines.truncate(start);
        }
        stats.lines += lines.len() as u64;
        let ends = [lines.first(), lines.last()].into_iter().flatten();
        self.paging
            .read(ends.filter_map(|line| line.stored.as_ref().map(size)));
        if is_last {
            self.left.pop_front();
        } else if let Some(last) = lines.last() {
            self.pass(&last.key);
        }
        let mut at = 0;
        while at < lines.len() {
            let end = at + run_length(&lines[at..]);
            let run = self.judge(reader, &lines[at..end], stats);
            self.buffer.extend(run);
            at = end;
        }
        Ok(())
    }

    /// The documents of lines that are in the result; in its order where the lines' keys are cut.
    fn judge(
        &self,
        reader: &Reader<'_>,
        lines: &[Line],
        stats: &mut Stats,
    ) -> Vec<(Place, Stored)> {
        let mut found = Vec::with_capacity(lines.len());
        for line in lines {
            let Some(stored) = &line.stored else { continue };
            stats.documents += 1;
            if reader.shows(&line.place, stored)
                && self.is_current(line, stored)
                && reader.query.matches(&line.place, stored)
            {
                found.push((line.place.clone(), stored.clone()));
            }
        }
        if lines.len() > 1 {
            found.sort_by(|a, b| reader.query.compare((&a.0, &a.1), (&b.0, &b.1)));
        }
        found
    }

    /// Whether the document still has the line: an index may be behind what others wrote.
    fn is_current(&self, line: &Line, stored: &Stored) -> bool {
        match &self.along {
            Some((_, Some(definition))) => {
                definition.has_line(&line.place, &stored.fields, &line.key)
            }
            _ => true,
        }
    }

    /// The smallest documents behind the last ones of a run that is too long for a page: all of it is gone
    /// through for each batch, so that memory stays bounded.
    async fn fill_from_run(
        &mut self,
        reader: &Reader<'_>,
        stats: &mut Stats,
    ) -> Result<(), Status> {
        let Some(Run { prefix, last }) = self.run.take() else {
            return Ok(());
        };
        let mut smallest = Smallest::new(reader.query, last);
        let mut interval = Interval::below(&prefix);
        while let Some(walk) = self.walk(&interval, FIRST_PAGE) {
            let lines = reader.view.walk(&walk).await.map_err(status::of_store)?;
            stats.lines += lines.len() as u64;
            for line in &lines {
                if let [(place, stored)] =
                    &mut self.judge(reader, std::slice::from_ref(line), stats)[..]
                {
                    smallest.offer(place, stored);
                }
            }
            let Some(end) = lines.last().filter(|_| lines.len() == FIRST_PAGE as usize) else {
                break;
            };
            pass(&mut interval, &end.key, self.descending);
        }
        let more = smallest.more;
        self.buffer.extend(smallest.kept);
        match self.buffer.back() {
            Some(last) if more => {
                let last = Some(last.clone());
                self.run = Some(Run { prefix, last });
            }
            _ => self.pass_run(&prefix),
        }
        Ok(())
    }

    fn walk(&self, interval: &Interval, limit: u32) -> Option<Walk> {
        let (along, _) = self.along.as_ref()?;
        walk_of(along, interval, self.descending, limit, true)
    }

    fn pass(&mut self, key: &[u8]) {
        let descending = self.descending;
        if let Some(interval) = self.left.front_mut() {
            pass(interval, key, descending);
        }
    }

    fn pass_run(&mut self, prefix: &[u8]) {
        let Some(interval) = self.left.front_mut() else {
            return;
        };
        if self.descending {
            interval.to = Some(prefix.to_vec());
        } else {
            match behind(prefix) {
                Some(from) => interval.from = from,
                None => interval.to = Some(interval.from.clone()),
            }
        }
        if interval.is_empty() {
            self.left.pop_front();
        }
    }
}

/// The walk through an interval; `None` where it is empty.
#[must_use]
pub fn walk_of(
    along: &Along,
    interval: &Interval,
    descending: bool,
    limit: u32,
    documents: bool,
) -> Option<Walk> {
    if interval.is_empty() {
        return None;
    }
    let mut from = match interval.from.as_slice() {
        [] => Bound::Unbounded,
        from => Bound::Included(from.to_vec()),
    };
    let mut to = match &interval.to {
        None => Bound::Unbounded,
        Some(to) => Bound::Excluded(to.clone()),
    };
    if matches!(along, Along::Collection(_)) {
        // The point right behind a key, said without the NUL that not every store can compare with.
        if let Some(key) = interval.from.strip_suffix(&[0]) {
            from = Bound::Excluded(key.to_vec());
        }
        if let Some(key) = interval.to.as_ref().and_then(|to| to.strip_suffix(&[0])) {
            to = Bound::Included(key.to_vec());
        }
    }
    Some(Walk {
        along: along.clone(),
        from,
        to,
        descending,
        limit,
        documents,
    })
}

/// Goes on behind a key, in the order of walking.
pub fn pass(interval: &mut Interval, key: &[u8], descending: bool) {
    if descending {
        interval.to = Some(key.to_vec());
    } else {
        interval.from = [key, &[0]].concat();
    }
}

/// Where the run begins that a page's last lines belong to, if their keys are cut.
fn open_run(lines: &[Line]) -> Option<usize> {
    let last = lines.last().filter(|line| is_cut(&line.key))?;
    let prefix = &last.key[..KEEP];
    let same = |line: &Line| is_cut(&line.key) && line.key.starts_with(prefix);
    Some(
        lines
            .iter()
            .rposition(|line| !same(line))
            .map_or(0, |i| i + 1),
    )
}

/// How many of the first lines have cut keys that begin alike; at least one.
fn run_length(lines: &[Line]) -> usize {
    let Some(first) = lines.first().filter(|line| is_cut(&line.key)) else {
        return 1;
    };
    let prefix = &first.key[..KEEP];
    lines
        .iter()
        .take_while(|line| is_cut(&line.key) && line.key.starts_with(prefix))
        .count()
}

/// About how many bytes a document's fields take.
#[must_use]
pub fn size(stored: &Stored) -> usize {
    stored
        .fields
        .iter()
        .map(|(name, value)| name.len() + value.encoded_len())
        .sum()
}

/// The smallest documents behind a position, of any that are offered: a bounded batch of a result that comes in no
/// order.
pub struct Smallest<'a> {
    query: &'a Query,
    after: Option<(Place, Stored)>,
    /// In order.
    pub kept: Vec<(Place, Stored)>,
    bytes: usize,
    /// Whether some were left out that come later.
    pub more: bool,
}

impl<'a> Smallest<'a> {
    #[must_use]
    pub fn new(query: &'a Query, after: Option<(Place, Stored)>) -> Self {
        Self {
            query,
            after,
            kept: Vec::new(),
            bytes: 0,
            more: false,
        }
    }

    pub fn offer(&mut self, place: &Place, stored: &Stored) {
        let before = |other: &(Place, Stored)| {
            self.query
                .compare((&other.0, &other.1), (place, stored))
                .is_lt()
        };
        if self.after.as_ref().is_some_and(|after| !before(after)) {
            return;
        }
        let at = self.kept.partition_point(before);
        if self.kept.get(at).is_some_and(|(other, _)| other == place) {
            return;
        }
        self.bytes += size(stored);
        self.kept.insert(at, (place.clone(), stored.clone()));
        while self.kept.len() > 1 && (self.kept.len() > PAGE as usize || self.bytes > PAGE_BYTES) {
            if let Some((_, last)) = self.kept.pop() {
                self.bytes -= size(&last);
                self.more = true;
            }
        }
    }
}
