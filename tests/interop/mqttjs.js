// Conversations of MQTT.js with a gateway: node mqttjs.js NAME OPTIONS, where OPTIONS is JSON with
// url, topic (nobody else's), ca (PEM file) and options of mqtt.connect. Ends with 0, or with an
// assertion on standard error.
'use strict'

const assert = require('node:assert/strict')
const fs = require('node:fs')
const mqtt = require('mqtt')

const { url, topic, ca, ...options } = JSON.parse(process.argv[3])
if (ca) options.ca = fs.readFileSync(ca)
const version5 = options.protocolVersion === 5

// A connected client that keeps what comes, and hands it out in order.
async function connect (more = {}) {
  const client = await mqtt.connectAsync(url, { reconnectPeriod: 0, ...options, ...more })
  const came = []
  let wanted = null
  client.on('message', (name, payload, packet) => {
    came.push({ topic: name, text: payload.toString(), packet })
    if (wanted && came.length >= wanted.count) wanted.resolve(came.splice(0, wanted.count))
  })
  client.take = (count) => came.length >= count
    ? Promise.resolve(came.splice(0, count))
    : new Promise((resolve) => { wanted = { count, resolve } })
  return client
}

const brief = (messages) => messages.map(
  ({ topic, text, packet }) => [topic, text, packet.qos, packet.retain])

const conversations = {
  // Each QoS, both ways; what is retained; a topic that is not English.
  async basics () {
    const client = await connect()
    const place = topic + '/grüße/世界'
    await client.publishAsync(place, 'kept', { qos: 1, retain: true })
    const granted = await client.subscribeAsync(topic + '/#', { qos: 2 })
    assert.equal(granted[0].qos, 2)
    for (const qos of [0, 1, 2]) await client.publishAsync(place, 'höre ' + qos, { qos })
    assert.deepEqual(brief(await client.take(4)), [
      [place, 'kept', 1, true],
      [place, 'höre 0', 0, false], [place, 'höre 1', 1, false], [place, 'höre 2', 2, false]
    ])
    await client.publishAsync(place, '', { qos: 1, retain: true })
    const large = Buffer.alloc(700000, 'x').toString()
    await client.publishAsync(topic, large, { qos: 1 })
    assert.equal((await client.take(2))[1].text, large)
    await client.unsubscribeAsync(topic + '/#')
    await client.publishAsync(place, 'unheard', { qos: 1 })
    await client.subscribeAsync(topic + '/end')
    await client.publishAsync(topic + '/end', 'end')
    assert.equal((await client.take(1))[0].text, 'end')
    await client.endAsync()
  },

  // A session that is left and found again, and the will of a lost connection.
  async session () {
    const kept = { clientId: topic, clean: false }
    if (version5) kept.properties = { sessionExpiryInterval: 600 }
    const other = await connect()
    await other.subscribeAsync(topic + '/will', { qos: 1 })
    const first = await connect(
      { ...kept, will: { topic: topic + '/will', payload: 'gone', qos: 1, retain: false } })
    await first.subscribeAsync(topic, { qos: 2 })
    first.stream.destroy()
    assert.deepEqual(brief(await other.take(1)), [[topic + '/will', 'gone', 1, false]])
    for (const qos of [1, 2]) await other.publishAsync(topic, 'missed ' + qos, { qos })
    const client = mqtt.connect(url, { reconnectPeriod: 0, ...options, ...kept })
    const came = []
    const all = new Promise((resolve) => client.on('message', (name, payload) => {
      if (came.push(payload.toString()) === 2) resolve()
    }))
    const [connack] = await new Promise((resolve) => client.on('connect', (...a) => resolve(a)))
    assert.equal(connack.sessionPresent, true)
    await all
    assert.deepEqual(came, ['missed 1', 'missed 2'])
    await client.endAsync()
    await other.endAsync()
  },

  // What MQTT 5.0 adds.
  async properties () {
    const client = await connect({ properties: { topicAliasMaximum: 10, receiveMaximum: 5 } })
    await client.subscribeAsync(topic, { qos: 1, properties: { subscriptionIdentifier: 42 } })
    const properties = {
      contentType: 'application/json',
      responseTopic: 'answers',
      correlationData: Buffer.from([0, 1, 255]),
      payloadFormatIndicator: true,
      messageExpiryInterval: 600,
      userProperties: { one: '1', more: ['2', '3'] }
    }
    await client.publishAsync(topic, '{}', { qos: 1, properties })
    const [{ packet }] = await client.take(1)
    for (const name of ['contentType', 'responseTopic', 'correlationData']) {
      assert.deepEqual(packet.properties[name], properties[name])
    }
    assert.equal(packet.properties.payloadFormatIndicator, true)
    assert.equal(packet.properties.subscriptionIdentifier, 42)
    assert.deepEqual({ ...packet.properties.userProperties }, properties.userProperties)
    await client.publishAsync(topic, 'named', { qos: 1, properties: { topicAlias: 1 } })
    await client.publishAsync('', 'aliased', { qos: 1, properties: { topicAlias: 1 } })
    for (let number = 0; number < 20; number++) client.publish(topic, '' + number, { qos: 1 })
    const texts = (await client.take(22)).map(({ topic, text }) => topic + ' ' + text)
    const expected = ['named', 'aliased', ...Array(20).keys()].map((text) => topic + ' ' + text)
    assert.deepEqual(texts, expected)
    await client.endAsync()
  },

  // Ten thousand messages, as fast as it can.
  async many () {
    const client = await connect()
    await client.subscribeAsync(topic, { qos: options.qos })
    const arrived = client.take(10000)
    // MQTT.js does not keep to the receive maximum that CONNACK tells; who sends more than that
    // with MQTT 5.0 has to wait by himself.
    const atOnce = version5 && options.qos ? 1000 : 10000
    for (let start = 0; start < 10000; start += atOnce) {
      const flights = []
      for (let number = start; number < start + atOnce; number++) {
        flights.push(client.publishAsync(topic, 'message ' + number, { qos: options.qos }))
      }
      await Promise.all(flights)
    }
    const texts = (await arrived).map(({ text }) => text)
    assert.deepEqual(texts, [...Array(10000).keys()].map((number) => 'message ' + number))
    await client.endAsync()
  },

  // Comes back by itself when the gateway does.
  async reconnect () {
    const client = await connect({ reconnectPeriod: 50 })
    client.on('error', () => {})
    await client.subscribeAsync(topic, { qos: 1 })
    const back = new Promise((resolve) => client.on('connect', resolve))
    console.log('connected')
    await back
    await client.publishAsync(topic, 'back', { qos: 1 })
    assert.equal((await client.take(1))[0].text, 'back')
    await client.endAsync()
  }
}

conversations[process.argv[2]]().catch((error) => {
  console.error(error)
  process.exit(1)
})
