// Run by cases/node.py; prints one JSON object, each member of which is computed a second time over there.
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const crypto = require('crypto');
const zlib = require('zlib');
const { spawnSync } = require('child_process');

if (!isMainThread) {
  let sum = 0;
  const counter = new Int32Array(workerData.shared);
  const garbage = [];
  for (let i = 0; i < 100000; i++) {
    sum += i * workerData.n;
    if (i % 20 === 0) {
      garbage.push(Buffer.allocUnsafeSlow(100 + (i % 5000)));
      if (garbage.length > 200) garbage.splice(0, 100);
      Atomics.add(counter, 0, 1);
    }
  }
  const answer = new Float64Array([sum]);
  parentPort.postMessage(answer, [answer.buffer]);
} else {
  main();
}

async function main() {
  const fs = require('fs');
  fs.readSync(0, Buffer.alloc(3)); // held back until the preload has been seen in us
  const out = {};
  const rows = Array.from({ length: 50000 }, (_, i) => ({ id: i, name: 'n' + (i * 7919 % 50000) }));
  rows.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : a.id - b.id));
  const text = JSON.stringify(JSON.parse(JSON.stringify(rows)));
  out.json = crypto.createHash('sha256').update(text).digest('hex');

  const buffers = [];
  for (let i = 0; i < 2000; i++) buffers.push(Buffer.alloc(16384, i % 256));
  out.buffers = buffers.reduce((sum, b) => sum + b[b.length - 1], 0);

  const packed = zlib.brotliCompressSync(zlib.gzipSync(text), { params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 4 } });
  const back = zlib.gunzipSync(zlib.brotliDecompressSync(packed)).toString();
  out.zlib = [back.length, back === text];

  const shared = new SharedArrayBuffer(4);
  out.workers = await Promise.all([1, 2, 3, 4].map((n) => new Promise((resolve, reject) => {
    const worker = new Worker(__filename, { workerData: { n, shared } });
    worker.on('message', (answer) => resolve(answer[0]));
    worker.on('error', reject);
  })));
  out.shared = new Int32Array(shared)[0];
  out.big = String(3n ** 5000n % 10n ** 40n);
  out.child = spawnSync('sh', ['-c', 'seq 0 999 | awk \'{s += $1} END {print s}\'']).stdout.toString();
  out.crypto = await new Promise((resolve, reject) => crypto.pbkdf2('secret', 'salt', 20000, 32, 'sha256',
    (error, key) => (error ? reject(error) : resolve(key.toString('hex')))));
  console.log(JSON.stringify(out));
}
