import NIOCore
import WeirCore
import WeirRedisClient
import WeirValues

extension RedisSink {
    /// Writes every row of the sink's tables, then removes the keys that no row has. Returns the
    /// number of rows.
    ///
    /// All get the version right behind the newest change delivered. The stream's next changes are
    /// newer and win, also where a row read now holds them already.
    func reread(_ link: RedisLink) async throws(WeirError) -> Int {
        let reader = try rows()
        let versions = CacheEncoder.Versions(epoch: delivered.epoch, fixed: delivered)
        var counts = CacheEncoder.Counts()
        var rowCount = 0
        for table in config.tables {
            try await reader.scan(table, showing: recent.all)
            while let batch = try await reader.next() {
                rowCount += batch.events.count
                try await deliver(batch, versions, &counts, link)
            }
        }
        try await settle(link, downTo: 0)
        // A sink that takes no deletes keeps what it once wrote.
        if config.routing.operations.contains(.delete) {
            try await sweep(below: delivered, link)
        }
        return rowCount
    }

    /// Deletes the keys of the template whose version is older: their rows are gone.
    ///
    /// Found by their side keys, so that a lease on a key without a value is voided too, and
    /// nothing is touched that Weir did not write.
    func sweep(below version: CacheVersion, _ link: RedisLink) async throws(WeirError) {
        var cursor = "0"
        repeat {
            let (next, sides) = try await scan(from: cursor, link)
            cursor = next
            for side in sides {
                guard call.append(sweeping: side, of: config.key) else { continue }
                if call.isFull(countMax: link.keysPerCall) {
                    try await submitSweep(below: version, link)
                }
            }
            try await submitSweep(below: version, link)
        } while cursor != "0"
        try await settle(link, downTo: 0)
    }

    private func submitSweep(
        below version: CacheVersion, _ link: RedisLink
    ) async throws(WeirError) {
        if call.isEmpty { return }
        let side = config.form == .invalidate ? CacheVersion.none : version
        let millis =
            config.form == .invalidate
            ? max(1, config.holdMillis) : config.lifetime.tombstoneMillis
        link.submit(&call, .sweep, lead: [version.text, side.text + "!", "\(millis)"])
        try await settle(link, downTo: 0)
    }

    private func scan(
        from cursor: String, _ link: RedisLink
    ) async throws(WeirError) -> (next: String, keys: [ByteBuffer]) {
        let reply: RESPValue
        do {
            reply = try await link.scan(from: cursor, matching: config.key.sideGlobPattern)
        } catch {
            throw failed(error)
        }
        guard let parts = reply.elements, parts.count == 2, let next = parts[0].text,
            let keys = parts[1].elements
        else {
            let failure = RedisFailure(.protocolError, "SCAN was not answered by keys")
            throw failed(.redis(failure, doing: "scan"))
        }
        return (next, keys.compactMap(\.bytes))
    }
}

extension ScriptCall {
    /// Appends the key of a side key that was found, unless the template cannot make it.
    fileprivate mutating func append(sweeping side: ByteBuffer, of template: KeyTemplate) -> Bool {
        unsafe side.withUnsafeReadableBytes { side in
            guard let key = unsafe template.key(ofSide: side) else { return false }
            unsafe append(key: UnsafeRawBufferPointer(rebasing: side[key]), side: side)
            return true
        }
    }
}

extension RedisLink {
    /// Keys one step of SCAN looks at.
    private static let scanCount = 1000

    func scan(
        from cursor: String, matching pattern: [UInt8]
    ) async throws(LinkFailure) -> RESPValue {
        var buffer = ByteBuffer()
        buffer.writeCommand(partCount: 6)
        for part in ["SCAN", cursor, "MATCH"] { buffer.writeBulk(part) }
        buffer.writeBulk(pattern)
        buffer.writeBulk("COUNT")
        buffer.writeBulk(Self.scanCount)
        return try await command(buffer)
    }
}
