// Transactions: isolation, contention, retries, read-only ones.

import { assert, fails, fresh, freshId, gate, item, sleep } from './harness.mjs';
import { AggregateField, call, database, db, documents, FieldValue, int, stream } from './clients.mjs';

const name = (path) => `${documents}/${path}`;
const update = (path, fields) => ({ update: { name: name(path), fields } });
const begin = async (options) => (await call('beginTransaction', { database, options })).transaction;
const read = async (transaction, path) => {
  const [answer] = await stream('batchGetDocuments', { database, documents: [name(path)], transaction });
  return answer.found ? Number(answer.found.fields.n.integerValue) : null;
};

item('transactions: read, then write all or nothing', async () => {
  const c = fresh();
  await c.doc('a').set({ n: 1 });
  await c.doc('old').set({});
  const said = await db.runTransaction(async (t) => {
    const [a, none] = await t.getAll(c.doc('a'), c.doc('none'));
    assert.equal(none.exists, false);
    t.update(a.ref, { n: a.get('n') + 1 });
    t.create(c.doc('new'), { n: 5 });
    t.set(c.doc('set'), { at: FieldValue.serverTimestamp() });
    t.delete(c.doc('old'));
    return 'said';
  });
  assert.equal(said, 'said');
  assert.deepEqual((await c.get()).docs.map((d) => d.id), ['a', 'new', 'set']);
  await fails('ALREADY_EXISTS', db.runTransaction(async (t) => {
    t.set(c.doc('a'), { n: 100 });
    t.create(c.doc('new'), {});
  }));
  assert.equal((await c.doc('a').get()).get('n'), 2);
});

item('transactions: an error of the app rolls back', async () => {
  const doc = fresh().doc('a');
  await doc.set({ n: 1 });
  await assert.rejects(
    db.runTransaction(async (t) => {
      await t.get(doc);
      t.update(doc, { n: 2 });
      throw new Error('mine');
    }),
    /mine/,
  );
  assert.equal((await doc.get()).get('n'), 1);
  await doc.update({ n: 3 });
});

item('transactions: contention: both count, whoever waits', async () => {
  const doc = fresh().doc('a');
  await doc.set({ n: 0 });
  const met = gate();
  let readers = 0;
  const add = () =>
    db.runTransaction(async (t) => {
      const snapshot = await t.get(doc);
      readers += 1;
      if (readers === 2) met.open();
      await Promise.race([met.passed, sleep(300)]);
      t.update(doc, { n: snapshot.get('n') + 1 });
    });
  await Promise.all([add(), add()]);
  assert.equal((await doc.get()).get('n'), 2);
});

item('transactions: no write skew', async () => {
  const c = fresh();
  for (let round = 0; round < 10; round += 1) {
    await Promise.all([c.doc('a').set({ on: true }), c.doc('b').set({ on: true })]);
    const leave = (mine, other) =>
      db.runTransaction(async (t) => {
        const [m, o] = await t.getAll(c.doc(mine), c.doc(other));
        if (m.get('on') && o.get('on')) t.update(c.doc(mine), { on: false });
      });
    await Promise.all([leave('a', 'b'), leave('b', 'a')]);
    assert.equal((await c.where('on', '==', true).get()).size, 1, 'exactly one stays');
  }
}, { slow: true });

item('transactions: what a query did not find is protected too', async () => {
  const c = fresh();
  const claim = (who) =>
    db.runTransaction(async (t) => {
      const taken = await t.get(c.where('seat', '==', 1));
      if (taken.empty) t.create(c.doc(who), { seat: 1 });
    });
  await Promise.all(Array.from({ length: 8 }, (_, i) => claim(`w${i}`)));
  assert.equal((await c.where('seat', '==', 1).get()).size, 1);
}, { slow: true });

item('transactions: queries and sums inside', async () => {
  const c = fresh();
  for (const n of [1, 2, 3]) await c.doc(`d${n}`).set({ n });
  await db.runTransaction(async (t) => {
    const found = await t.get(c.where('n', '>=', 2).orderBy('n', 'desc'));
    const sums = await t.get(c.aggregate({ count: AggregateField.count(), sum: AggregateField.sum('n') }));
    t.set(c.doc('result'), { found: found.docs.map((d) => d.get('n')), ...sums.data() });
  });
  assert.deepEqual((await c.doc('result').get()).data(), { found: [3, 2], count: 3, sum: 6 });
});

item('transactions: a plain write beside a transaction: one order of both', async () => {
  const c = fresh();
  for (let round = 0; round < 5; round += 1) {
    const doc = c.doc(`d${round}`);
    await doc.set({ n: 1 });
    const transaction = await begin({ readWrite: {} });
    assert.equal(await read(transaction, doc.path), 1);
    const order = [];
    const plain = doc.set({ n: 10 }).then(() => order.push('plain'));
    await sleep(round * 20);
    const ours = call('commit', { database, transaction, writes: [update(doc.path, { n: int(2) })] }).then(
      () => order.push('ours'),
      (error) => {
        assert.equal(error.code, 10, error.message);
        order.push('aborted');
      },
    );
    await Promise.all([plain, ours]);
    assert.equal((await doc.get()).get('n'), 10, order.join());
  }
}, { slow: true });

item('transactions: retry of one that was never rolled back', async () => {
  const path = `${freshId('t')}/a`;
  await call('commit', { database, writes: [update(path, { n: int(1) })] });
  const first = await begin({ readWrite: {} });
  assert.equal(await read(first, path), 1);
  const second = await begin({ readWrite: { retryTransaction: first } });
  assert.notDeepEqual(first, second);
  assert.equal(await read(second, path), 1);
  await call('commit', { database, transaction: second, writes: [update(path, { n: int(2) })] });
  assert.equal((await db.doc(path).get()).get('n'), 2);
}, { slow: true, hidane: 'keeps the locks of the transaction that is retried' });

item('transactions: rolled back, or never begun, they cannot commit', async () => {
  const path = `${freshId('t')}/a`;
  const transaction = await begin({ readWrite: {} });
  await call('rollback', { database, transaction });
  await fails('INVALID_ARGUMENT', call('commit', { database, transaction, writes: [update(path, {})] }), /transaction has expired/);
  const unknown = Buffer.from('never given out');
  await fails('INVALID_ARGUMENT', call('commit', { database, transaction: unknown, writes: [] }));
  assert.equal((await db.doc(path).get()).exists, false);
}, { hidane: 'says ABORTED; the SDK knows production by INVALID_ARGUMENT' });

item('transactions: begun by the first read', async () => {
  const path = `${freshId('t')}/a`;
  await call('commit', { database, writes: [update(path, { n: int(1) })] });
  const answers = await stream('batchGetDocuments', { database, documents: [name(path)], newTransaction: { readWrite: {} } });
  const { transaction } = answers.find((a) => a.transaction.length);
  assert.ok(answers.some((a) => a.found));
  await call('commit', { database, transaction, writes: [update(path, { n: int(2) })] });
  const query = { from: [{ collectionId: path.split('/')[0] }] };
  const found = await stream('runQuery', { parent: documents, structuredQuery: query, newTransaction: { readWrite: {} } });
  assert.ok(found[0].transaction.length);
  await call('rollback', { database, transaction: found[0].transaction });
});

item('transactions: read-only ones see one time and write nothing', async () => {
  const c = fresh();
  await c.doc('a').set({ n: 1 });
  await c.doc('b').set({ n: 1 });
  await db.runTransaction(async (t) => {
    assert.equal((await t.get(c.doc('a'))).get('n'), 1);
    await db.batch().update(c.doc('a'), { n: 2 }).update(c.doc('b'), { n: 2 }).set(c.doc('c'), { n: 2 }).commit();
    assert.equal((await t.get(c.doc('b'))).get('n'), 1);
    assert.equal((await t.get(c)).size, 2);
  }, { readOnly: true });
  const transaction = await begin({ readOnly: {} });
  await fails('INVALID_ARGUMENT', call('commit', { database, transaction, writes: [update(c.doc('a').path, {})] }));
  assert.equal((await c.doc('a').get()).get('n'), 2);
});

item('transactions: read-only as of a past time', async () => {
  const doc = fresh().doc('a');
  const first = (await doc.set({ n: 1 })).writeTime;
  await sleep(5);
  await doc.set({ n: 2 });
  const seen = await db.runTransaction(async (t) => (await t.get(doc)).get('n'), { readOnly: true, readTime: first });
  assert.equal(seen, 1);
});

item('transactions: readers are consistent while writers move money', async () => {
  const c = fresh();
  const accounts = ['a', 'b', 'c', 'd'];
  for (const id of accounts) await c.doc(id).set({ n: 100 });
  let stop = false;
  const move = async (i) => {
    for (let k = 0; k < 10; k += 1) {
      const [from, to] = [accounts[(i + k) % 4], accounts[(i + k * 3 + 1) % 4]];
      if (from === to) continue;
      await db.runTransaction(async (t) => {
        const [f, o] = await t.getAll(c.doc(from), c.doc(to));
        t.update(f.ref, { n: f.get('n') - 7 });
        t.update(o.ref, { n: o.get('n') + 7 });
      }, { maxAttempts: 20 });
    }
  };
  const look = async () => {
    while (!stop) {
      const docs = (await c.get()).docs;
      assert.equal(docs.reduce((sum, d) => sum + d.get('n'), 0), 400, 'a query is of one time');
      const all = await db.getAll(...accounts.map((id) => c.doc(id)));
      assert.equal(all.reduce((sum, d) => sum + d.get('n'), 0), 400, 'a BatchGet is of one time');
    }
  };
  const looking = look();
  await Promise.all([0, 1, 2, 3].map(move)).finally(() => (stop = true));
  await looking;
}, { slow: true });
