// Everything that an app does with Firestore through Google's own client, item by item.
//   FIRESTORE_EMULATOR_HOST=127.0.0.1:8080 node main.mjs [PART OF AN ITEM'S NAME]

import './documents.mjs';
import './commits.mjs';
import './transactions.mjs';
import './queries.mjs';
import './random.mjs';
import './listen.mjs';
import './limits.mjs';
import './rest.mjs';
import { finish } from './harness.mjs';

await finish();
