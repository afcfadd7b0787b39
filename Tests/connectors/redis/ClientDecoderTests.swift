import NIOCore
import Testing
import WeirRedisClient
import WeirTesting

struct ClientDecoderTests {
    private static let values: [(wire: String, value: RESPValue)] = [
        ("+OK\r\n", .simple("OK")),
        ("+\r\n", .simple("")),
        ("-ERR no\r\n", .error(RESPError("ERR no"))),
        (":0\r\n", .integer(0)),
        (":+7\r\n", .integer(7)),
        (":9223372036854775807\r\n", .integer(.max)),
        (":-9223372036854775808\r\n", .integer(.min)),
        ("$0\r\n\r\n", .bulk(ByteBuffer())),
        ("$5\r\na\r\nb$\r\n", .bulk(ByteBuffer(string: "a\r\nb$"))),
        ("$-1\r\n", .null),
        ("*-1\r\n", .null),
        ("_\r\n", .null),
        ("*0\r\n", .array([])),
        (
            "*2\r\n:1\r\n*1\r\n$1\r\nx\r\n",
            .array([.integer(1), .array([.bulk(ByteBuffer(string: "x"))])])
        ),
        ("*3\r\n*0\r\n$-1\r\n*-1\r\n", .array([.array([]), .null, .null])),
        (",1.5\r\n", .double(1.5)),
        (",-1e3\r\n", .double(-1000)),
        (",10\r\n", .double(10)),
        (",inf\r\n", .double(.infinity)),
        (",-inf\r\n", .double(-.infinity)),
        ("#t\r\n", .boolean(true)),
        ("#f\r\n", .boolean(false)),
        (
            "(-3492890328409238509324850943850943825024385\r\n",
            .bigNumber("-3492890328409238509324850943850943825024385")
        ),
        ("!8\r\nERR a\r\nb\r\n", .error(RESPError("ERR a\r\nb"))),
        ("=7\r\ntxt:a\r\n\r\n", .verbatim(format: "txt", ByteBuffer(string: "a\r\n"))),
        (
            "%2\r\n+a\r\n:1\r\n+b\r\n%0\r\n",
            .map([.simple("a"), .integer(1), .simple("b"), .map([])])
        ),
        ("~2\r\n:1\r\n#t\r\n", .set([.integer(1), .boolean(true)])),
        (
            ">2\r\n+invalidate\r\n*1\r\n+k\r\n",
            .push([.simple("invalidate"), .array([.simple("k")])])
        ),
        // Attributes are left out: before a reply, in an array and in one another.
        ("|1\r\n+ttl\r\n:5\r\n:2\r\n", .integer(2)),
        ("|0\r\n:2\r\n", .integer(2)),
        (
            "*2\r\n|1\r\n+a\r\n*1\r\n|1\r\n+b\r\n+c\r\n:9\r\n:1\r\n:2\r\n",
            .array([.integer(1), .integer(2)])
        ),
    ]

    private func decode(_ pieces: [ByteBuffer]) throws -> [RESPValue] {
        var decoder = RESPDecoder()
        var values: [RESPValue] = []
        for piece in pieces {
            decoder.feed(piece)
            while let value = try decoder.next() { values.append(value) }
        }
        return values
    }

    @Test func everyTypeIsDecodedWhole() throws {
        for (wire, value) in Self.values {
            #expect(try decode([ByteBuffer(string: wire)]) == [value], "\(wire)")
        }
        let all = Self.values.map(\.wire).joined()
        #expect(try decode([ByteBuffer(string: all)]) == Self.values.map(\.value))
    }

    @Test func everyTypeIsDecodedInPiecesOfAnySize() throws {
        let all = Array(Self.values.map(\.wire).joined().utf8)
        for size in 1...17 {
            let pieces = stride(from: 0, to: all.count, by: size).map {
                ByteBuffer(bytes: all[$0..<min($0 + size, all.count)])
            }
            #expect(try decode(pieces) == Self.values.map(\.value))
        }
    }

    @Test func aPartOfAReplyIsNoReply() throws {
        for (wire, _) in Self.values {
            for count in 0..<wire.utf8.count {
                let part = ByteBuffer(bytes: Array(wire.utf8.prefix(count)))
                #expect(try decode([part]) == [], "\(count) bytes of \(wire)")
            }
        }
    }

    @Test func aDoubleMayBeNoNumber() throws {
        let values = try decode([ByteBuffer(string: ",nan\r\n")])
        guard case .double(let number)? = values.first else {
            Issue.record("not a double: \(values)")
            return
        }
        #expect(number.isNaN)
    }

    @Test(arguments: [
        "x\r\n", "\r\n", "HTTP/1.1 400\r\n", "\u{15}\u{3}", "+a\rb\r\n", "+a\nb\r\n", ":\r\n",
        ":1a\r\n",
        ": 1\r\n", ":+\r\n", ":9223372036854775808\r\n", ":-9223372036854775809\r\n", "$\r\n",
        "$x\r\n", "$-2\r\n", "$+1\r\n", "$?\r\n", "$1\r\nabc", "$1000000000000000000000\r\n",
        "$536870913\r\n", "*-2\r\n", "*?\r\n", "*1048577\r\n", "%-1\r\n", "%524289\r\n",
        "*9223372036854775807\r\n", "%9223372036854775807\r\n", "_x\r\n", "#x\r\n", "#\r\n",
        ",\r\n", ",0x1\r\n", ",1 \r\n", ",infinity\r\n", "(\r\n", "(-\r\n", "(1a\r\n",
        "=3\r\ntxt\r\n", "=4\r\ntxtx\r\n", "!-1\r\n", "*1\r\n>1\r\n", "|-1\r\n", ".\r\n", ";1\r\n",
    ])
    func malformedBytesAreRefusedForGood(_ wire: String) throws {
        var decoder = RESPDecoder()
        decoder.feed(ByteBuffer(string: wire))
        let first = try #require(throws: MalformedRESP.self) { try decoder.next() }
        decoder.feed(ByteBuffer(string: "+OK\r\n"))
        let second = #expect(throws: MalformedRESP.self) { try decoder.next() }
        #expect(first == second)
    }

    @Test func limitsHoldBeforeTheBytesCome() throws {
        var limits = RESPLimits()
        (limits.replyBytes, limits.lineBytes, limits.elements, limits.depth) = (16, 8, 6, 3)
        let refused = [
            "$14\r\n", "*2\r\n$6\r\n123456\r\n$5\r\n", "+12345678", "*7\r\n", "%4\r\n",
            "*3\r\n*2\r\n:1\r\n:2\r\n*2\r\n", "*1\r\n*1\r\n*1\r\n*1\r\n",
            "|1\r\n|1\r\n|1\r\n|1\r\n",
        ]
        for wire in refused {
            var decoder = RESPDecoder(limits: limits)
            decoder.feed(ByteBuffer(string: wire))
            #expect(throws: MalformedRESP.self, "\(wire)") { try decoder.next() }
        }
        // They count per reply.
        var decoder = RESPDecoder(limits: limits)
        for _ in 0..<5 {
            decoder.feed(ByteBuffer(string: "*2\r\n$5\r\n12345\r\n$5\r\n12345\r\n+1234567\r\n"))
            #expect(try decoder.next() != nil)
            #expect(try decoder.next() == .simple("1234567"))
        }
    }

    @Test func ofALongErrorTheBeginningIsKept() throws {
        var decoder = RESPDecoder()
        let text = "ERR " + String(repeating: "E", count: 40 << 20)
        decoder.feed(ByteBuffer(string: "!\(text.utf8.count)\r\n\(text)\r\n+OK\r\n"))
        let error = try #require(try decoder.next()?.error)
        #expect(error.code == "ERR" && error.text.utf8.count == 64 << 10)
        #expect(RedisFailure(error).message.utf8.count < 2100)
        #expect(try decoder.next() == .simple("OK"))
        let odd = RESPError(String(repeating: "A", count: 100) + " x")
        #expect(odd.code == "", "no code is that long")
        #expect(RedisFailure(RESPError("ERR \u{1B}[2J")).message == "ERR <U+001B>[2J")
    }

    @Test func aLongStringInPiecesIsReadOnce() throws {
        let count = 100 << 20
        var limits = RESPLimits()
        limits.replyBytes = 2 * count
        var decoder = RESPDecoder(limits: limits)
        decoder.feed(ByteBuffer(string: "*2\r\n$1\r\nx\r\n$\(count)\r\n"))
        let piece = ByteBuffer(repeating: UInt8(ascii: "\r"), count: 64 << 10)
        let start = ContinuousClock.now
        for _ in 0..<(count / piece.readableBytes) {
            #expect(try decoder.next() == nil)
            decoder.feed(piece)
        }
        let elapsed = ContinuousClock.now - start
        #expect(try decoder.next() == nil)
        decoder.feed(ByteBuffer(string: "\r\n"))
        let value = try decoder.next()
        #expect(value?.elements?.last?.bytes?.readableBytes == count)
        // Looking at all of it for each piece would be 80 GB.
        #expect(elapsed < .seconds(10))
    }

    @Test func aLongLineByteByByteIsReadOnce() throws {
        var decoder = RESPDecoder()
        let count = (64 << 10) - 1
        decoder.feed(ByteBuffer(string: "+"))
        let start = ContinuousClock.now
        for _ in 0..<count {
            decoder.feed(ByteBuffer(string: "a"))
            #expect(try decoder.next() == nil)
        }
        decoder.feed(ByteBuffer(string: "\r\n"))
        #expect(try decoder.next()?.text?.utf8.count == count)
        // Two billion bytes, were each piece searched from the start.
        #expect(ContinuousClock.now - start < .seconds(10))
    }

    @Test("No bytes crash or hang the decoder", arguments: [1, 2, 3, 4] as [UInt64])
    func mutatedBytes(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        let seeds = Self.values.map { Array($0.wire.utf8) }
        let marks = Array("+-:$*_,#(!=%~>|\r\n0123456789".utf8)
        var refused = 0
        for _ in 0..<20_000 {
            var bytes: [UInt8] = []
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                bytes += seeds.randomElement(using: &random) ?? []
            }
            for _ in 0..<Int.random(in: 0...4, using: &random) where !bytes.isEmpty {
                let at = Int.random(in: bytes.indices, using: &random)
                switch Int.random(in: 0..<4, using: &random) {
                case 0: bytes[at] = UInt8.random(in: .min ... .max, using: &random)
                case 1: bytes[at] = marks.randomElement(using: &random) ?? 0
                case 2: bytes.remove(at: at)
                default: bytes.removeSubrange(at...)
                }
            }
            let whole = Self.outcome(of: [bytes[...]])
            let cut = Int.random(in: 0...bytes.count, using: &random)
            #expect(whole == Self.outcome(of: [bytes[..<cut], bytes[cut...]]), "\(bytes)")
            if whole.failure != nil { refused += 1 }
        }
        #expect(refused > 1000)
    }

    private struct Outcome: Equatable {
        var values: [String] = []
        var failure: MalformedRESP?
    }

    private static func outcome(of pieces: [ArraySlice<UInt8>]) -> Outcome {
        var decoder = RESPDecoder()
        var outcome = Outcome()
        do throws(MalformedRESP) {
            for piece in pieces {
                decoder.feed(ByteBuffer(bytes: piece))
                while let value = try decoder.next() { outcome.values.append(text(of: value)) }
            }
        } catch {
            outcome.failure = error
        }
        return outcome
    }

    /// Bytes and not their place in a buffer; and not-a-number equals itself.
    private static func text(of value: RESPValue) -> String {
        if let elements = value.elements { return "\(elements.map(text(of:)))" }
        return value.bytes.map { "\(Array($0.readableBytesView))" } ?? "\(value)"
    }

    @Test func anErrorHasACodeAndHidesArguments() {
        #expect(RESPError("WRONGTYPE Operation").code == "WRONGTYPE")
        #expect(RESPError("NOSCRIPT").code == "NOSCRIPT")
        #expect(RESPError("Unknown thing").code == "")
        #expect(RESPError("").code == "")
        let unknown = RESPError("ERR unknown command 'AUTH', with args beginning with: 'hush' ")
        #expect(unknown.safeText == "ERR unknown command 'AUTH'")
        #expect(RedisFailure(unknown).message == "ERR unknown command 'AUTH'")
        #expect(RedisFailure(unknown).kind == .reply(code: "ERR"))
    }

    @Test func aCommandIsWrittenInItsParts() {
        var buffer = ByteBuffer()
        buffer.writeCommand(partCount: 6)
        buffer.writeBulk("é")
        buffer.writeBulk([0, 13, 10])
        unsafe ([7, 8] as [UInt8]).withUnsafeBytes { unsafe buffer.writeBulk($0) }
        buffer.writeBulk(ByteBuffer(string: "b"))
        buffer.writeBulk(Int.min)
        buffer.writeBulk(-10)
        let expected =
            "*6\r\n$2\r\né\r\n$3\r\n\0\r\n\r\n$2\r\n\u{7}\u{8}\r\n$1\r\nb\r\n"
            + "$20\r\n-9223372036854775808\r\n$3\r\n-10\r\n"
        #expect(String(buffer: buffer) == expected)
        for number in [0, 9, 10, 99, 100, 12_345, Int.max] {
            var buffer = ByteBuffer()
            buffer.writeBulk(number)
            #expect(String(buffer: buffer) == "$\("\(number)".count)\r\n\(number)\r\n")
        }
    }
}
