"""The same protocol through the asynchronous client."""

import asyncio

from google.api_core import exceptions
from google.cloud import firestore
from google.cloud.firestore_v1.base_query import FieldFilter

from harness import PROJECT, equal, fresh_id, item


@item("asynchronous: documents, batches, queries, aggregations, lists")
async def _():
    client = firestore.AsyncClient(project=PROJECT)
    c = client.collection(fresh_id())
    await c.document("a").create({"n": 1})
    try:
        await c.document("a").create({})
        raise AssertionError("created twice")
    except exceptions.AlreadyExists:
        pass
    batch = client.batch()
    for n in range(2, 30):
        batch.set(c.document(f"d{n:02}"), {"n": n})
    await batch.commit()
    q = c.where(filter=FieldFilter("n", ">", 3)).order_by("n", direction=firestore.Query.DESCENDING).limit(2)
    equal([s.get("n") async for s in q.stream()], [29, 28])
    equal((await c.count().get())[0][0].value, 29)
    equal((await c.sum("n").get())[0][0].value, sum(range(1, 30)))
    equal([d.id async for d in c.list_documents(page_size=10)][:2], ["a", "d02"])
    equal(sorted([s.id async for s in client.get_all([c.document("a"), c.document("d05")])]), ["a", "d05"])
    await client.recursive_delete(c)
    equal([s async for s in c.stream()], [])


@item("asynchronous: transactions side by side", hidane="aborts most of them")
async def _():
    client = firestore.AsyncClient(project=PROJECT)
    doc = client.collection(fresh_id()).document("a")
    await doc.set({"n": 0})

    async def add():
        @firestore.async_transactional
        async def work(transaction):
            snapshot = await doc.get(transaction=transaction)
            transaction.update(doc, {"n": snapshot.get("n") + 1})

        for _ in range(10):
            await work(client.transaction(max_attempts=20))

    await asyncio.gather(*[add() for _ in range(4)])
    equal((await doc.get()).get("n"), 40)
