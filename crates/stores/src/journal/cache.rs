//! The pre-image blocks read last. Keys are asked for in order, so neighbours lie in the same block.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use whimbrel_model::ledger::{PreimageHit, RunId};

/// Enough for the blocks that a few partitions read at once.
const CAPACITY_BYTES: usize = 16 << 20;

/// One stored block. It never changes.
pub(super) struct Block {
    run: RunId,
    data: Arc<Vec<u8>>,
}

impl Block {
    pub(super) fn new(run: RunId, data: Vec<u8>) -> Self {
        Self {
            run,
            data: Arc::new(data),
        }
    }

    pub(super) fn hit(&self, id: u64, index: u32) -> PreimageHit {
        PreimageHit {
            block: id,
            run: self.run.clone(),
            index,
            data: self.data.clone(),
        }
    }
}

/// Compressed blocks by id, least recently used first.
#[derive(Default)]
pub(super) struct BlockCache {
    blocks: Mutex<VecDeque<(u64, Arc<Block>)>>,
}

impl BlockCache {
    pub(super) fn get(&self, id: u64) -> Option<Arc<Block>> {
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let at = blocks.iter().position(|(block, _)| *block == id)?;
        let hit = blocks.remove(at)?;
        let block = hit.1.clone();
        blocks.push_back(hit);
        Some(block)
    }

    pub(super) fn put(&self, id: u64, block: Block) -> Arc<Block> {
        let block = Arc::new(block);
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        blocks.push_back((id, block.clone()));
        let mut bytes: usize = blocks.iter().map(|(_, block)| block.data.len()).sum();
        while bytes > CAPACITY_BYTES && blocks.len() > 1 {
            let dropped = blocks.pop_front().map_or(0, |(_, block)| block.data.len());
            bytes -= dropped;
        }
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_used_longest_ago_goes_first() {
        let zeros = |n| Block::new("run".to_owned(), vec![0; n]);
        let cache = BlockCache::default();
        let third = CAPACITY_BYTES / 3;
        for id in 1..=3 {
            cache.put(id, zeros(third));
        }
        assert!(cache.get(1).is_some());
        cache.put(4, zeros(third));
        let kept: Vec<bool> = (1..=4).map(|id| cache.get(id).is_some()).collect();
        assert_eq!(kept, [true, false, true, true]);
        cache.put(5, zeros(CAPACITY_BYTES + 1));
        assert!(cache.get(5).is_some(), "one block is always kept");
    }
}
