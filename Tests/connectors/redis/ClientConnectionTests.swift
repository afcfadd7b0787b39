import NIOCore
import NIOPosix
import Synchronization
import Testing
import WeirCore
import WeirRedisClient
import WeirTesting

struct ClientConnectionTests {
    @Test("Every future gets its own replies, in order", arguments: [2, 3])
    func pipelining(protocolVersion: Int) async throws {
        let server = try await RedisServer.start()
        let connection = try await RedisConnection.connect(
            server, query: "?protocol=\(protocolVersion)")
        #expect(connection.protocolVersion == protocolVersion)
        // On the event loop and off it; of one command and of many.
        let futures = (0..<20).map { round in
            let commands = Array(repeating: ["INCR", "n"], count: round == 7 ? 1 : 525)
            if round.isMultiple(of: 2) { return connection.submit(commands) }
            return connection.eventLoop.flatSubmit { connection.submit(commands) }
        }
        // Off the loop both kinds are handed over in the order of these lines.
        var expected: Int64 = 0
        for future in futures {
            for reply in try await future.value() {
                expected += 1
                #expect(reply == .integer(expected))
            }
        }
        #expect(expected == 19 * 525 + 1)
        await connection.close()
    }

    @Test func anErrorReplyIsAValueAmongItsNeighbours() async throws {
        let server = try await RedisServer.start()
        let connection = try await RedisConnection.connect(server)
        let replies = try await connection.submit([
            ["SET", "text", "x"], ["LPUSH", "text", "y"], ["NOSUCH", "value"], ["GET", "text"],
        ]).value()
        #expect(replies[0] == .simple("OK"))
        #expect(replies[1].error?.code == "WRONGTYPE")
        #expect(replies[2].error?.code == "ERR")
        #expect(replies[3].text == "x")
        let failure = await #expect(throws: RedisFailure.self) {
            try await connection.command("NOSUCH", "value")
        }
        #expect(failure?.kind == .reply(code: "ERR"))
        #expect(failure?.message.contains("value") == false)
        #expect(try await connection.command("GET", "none").isNull)
    }

    @Test func theCodesOfErrorsArrive() async throws {
        let server = try await RedisServer.start()
        let connection = try await RedisConnection.connect(server)
        func code(_ parts: String...) async throws -> String? {
            try await connection.submit([parts]).value()[0].error?.code
        }
        #expect(try await code("EVALSHA", String(repeating: "0", count: 40), "0") == "NOSCRIPT")
        #expect(try await code("CONFIG", "SET", "maxmemory", "1") == nil)
        #expect(try await code("SET", "k", "v") == "OOM")
        #expect(try await code("CONFIG", "SET", "maxmemory", "0") == nil)
        #expect(try await code("CONFIG", "SET", "min-replicas-to-write", "1") == nil)
        #expect(try await code("SET", "k", "v") == "NOREPLICAS")
        #expect(try await code("REPLICAOF", "127.0.0.1", "1") == nil)
        #expect(try await code("SET", "k", "v") == "READONLY")
        let facts = try await RedisServerFacts.read(from: connection)
        #expect(facts.role == .slave)
    }

    @Test("All types of RESP3 come from a real server", arguments: [2, 3])
    func realTypes(protocolVersion: Int) async throws {
        let server = try await RedisServer.start(settings: ["enable-debug-command": "yes"])
        let pushes = Mutex<[RESPValue]>([])
        let options = try RedisOptions(server, query: "?protocol=\(protocolVersion)")
        let connection = try await RedisConnection.connect(
            options, on: MultiThreadedEventLoopGroup.singleton.any()
        ) { elements in pushes.withLock { $0 += elements } }
        let names = [
            "string", "integer", "double", "null", "array", "set", "map", "attrib", "push",
            "verbatim", "true", "false",
        ]
        let replies = try await connection.submit(names.map { ["DEBUG", "PROTOCOL", $0] }).value()
        let isThree = protocolVersion == 3
        let numbers = (0..<3).map { RESPValue.integer($0) }
        let flags = [0, 1, 2].flatMap {
            [.integer($0), isThree ? .boolean($0 == 1) : .integer($0 == 1 ? 1 : 0)] as [RESPValue]
        }
        #expect(replies[0].text == "Hello World")
        #expect(replies[1] == .integer(12345))
        #expect(isThree ? replies[2] == .double(3.141) : replies[2].text?.hasPrefix("3.14") == true)
        #expect(replies[3] == .null)
        #expect(replies[4] == .array(numbers))
        #expect(replies[5] == (isThree ? .set(numbers) : .array(numbers)))
        #expect(replies[6] == (isThree ? .map(flags) : .array(flags)))
        #expect(replies[7].text?.hasPrefix("Some real reply") == true)
        if isThree {
            #expect(replies[8].text?.hasPrefix("Some real reply") == true)
            #expect(pushes.withLock { $0.last } == .integer(42))
        } else {
            #expect(replies[8].error != nil)
        }
        #expect(replies[9].text == "This is a verbatim\nstring")
        #expect(replies[10] == (isThree ? .boolean(true) : .integer(1)))
        #expect(replies[11] == (isThree ? .boolean(false) : .integer(0)))
    }

    @Test func aPushIsNeverTakenForAReply() async throws {
        let server = try await RedisServer.start()
        let keys = Mutex<[String]>([])
        let options = try RedisOptions(server, query: "?protocol=3")
        let connection = try await RedisConnection.connect(
            options, on: MultiThreadedEventLoopGroup.singleton.any()
        ) { elements in
            let changed = elements.last?.elements ?? []
            keys.withLock { $0 += changed.compactMap(\.text) }
        }
        _ = try await connection.command("CLIENT", "TRACKING", "ON")
        for round in 0..<50 {
            #expect(try await connection.command("GET", "k\(round)").isNull)
            try server.command("SET", "k\(round)", "v")
        }
        try await eventually("the server tells of every key") {
            let reply = try await connection.command("ECHO", "still in step")
            #expect(reply.text == "still in step")
            return keys.withLock { $0.count } == 50
        }
        #expect(keys.withLock { $0 } == (0..<50).map { "k\($0)" })
    }

    @Test("Values of 5 MB go both ways", arguments: [2, 3])
    func bigValues(protocolVersion: Int) async throws {
        let server = try await RedisServer.start()
        let connection = try await RedisConnection.connect(
            server, query: "?protocol=\(protocolVersion)")
        var random = SeededGenerator(seed: 5)
        let value = (0..<(5 << 20)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        var bytes = ByteBuffer()
        bytes.writeCommand(partCount: 3)
        bytes.writeBulk("SET")
        bytes.writeBulk([0, 255, 13, 10])
        bytes.writeBulk(value)
        for _ in 0..<4 {
            bytes.writeCommand(partCount: 2)
            bytes.writeBulk("GET")
            bytes.writeBulk([0, 255, 13, 10])
        }
        let replies = try await connection.submit(bytes, replies: 5).value()
        #expect(replies[0] == .simple("OK"))
        let expected = ByteBuffer(bytes: value)
        for reply in replies.dropFirst() { #expect(reply.bytes == expected) }
        #expect(try server.get([0, 255, 13, 10]) == value)
    }

    @Test func theDatabaseAndTheNameAreTheConnections() async throws {
        let server = try await RedisServer.start()
        var options = try RedisOptions(server, url: server.url(database: 3))
        options.clientName = "weir-orders"
        let connection = try await RedisConnection.connect(options)
        _ = try await connection.command("SET", "k", "v")
        #expect(try server.get("k") == nil)
        #expect(try server.cli("-n", "3", "GET", "k") == "v")
        let name = try await connection.command("CLIENT", "GETNAME")
        #expect(name.text == "weir-orders")
        // A name the server does not take is no reason to fail.
        options.clientName = "weir orders"
        let other = try await RedisConnection.connect(options)
        #expect(try await other.command("CLIENT", "GETNAME").text?.isEmpty != false)
        let failure = await #expect(throws: RedisFailure.self) {
            try await RedisConnection.connect(server, url: server.url(database: 16))
        }
        #expect(failure?.kind == .reply(code: "ERR"))
        #expect(failure?.message.contains("out of range") == true)
    }

    @Test func aUnixSocketIsAPlaceToo() async throws {
        let server = try await RedisServer.start(password: "pw")
        let url = "unix://:pw@\(server.socketFile)?db=2&protocol=3"
        let connection = try await RedisConnection.connect(server, url: url)
        _ = try await connection.command("SET", "k", "v")
        #expect(try server.cli("-n", "2", "GET", "k") == "v")
        #expect(connection.protocolVersion == 3)
    }

    @Test("Credentials are the URL's or the options'", arguments: [2, 3])
    func credentials(protocolVersion: Int) async throws {
        let server = try await RedisServer.start(password: "open sesame")
        try server.command("ACL", "SETUSER", "weir", "on", ">barley", "+@all", "~*")
        try server.command("ACL", "SETUSER", "free", "on", "nopass", "+@all", "~*")
        func user(_ credentials: String, _ password: String? = nil) async throws -> String? {
            let url = "redis://\(credentials)127.0.0.1:\(server.port)?protocol=\(protocolVersion)"
            var options = try RedisOptions(server, url: url)
            options.password = password.map { Secret($0, origin: "test") }
            let connection = try await RedisConnection.connect(options)
            #expect(connection.protocolVersion == protocolVersion)
            return try await connection.command("ACL", "WHOAMI").text
        }
        #expect(try await user(":open%20sesame@") == "default")
        #expect(try await user("default:open%20sesame@") == "default")
        #expect(try await user("", "open sesame") == "default")
        #expect(try await user("weir:barley@") == "weir")
        #expect(try await user("weir@", "barley") == "weir")
        #expect(try await user("weir:oats@", "barley") == "weir")
        #expect(try await user("free@") == "free")
        for (credentials, password) in [
            ("", nil), (":barley@", nil), ("weir:oats@", nil), ("weir@", nil),
            ("nobody:oats@", nil),
            ("weir:barley@", "oats"),
        ] {
            let failure = await #expect(throws: RedisFailure.self, "\(credentials)") {
                try await user(credentials, password)
            }
            #expect(failure?.kind == .authentication)
            #expect(failure?.message.contains("oats") == false)
            #expect(failure?.message.contains("barley") == false)
        }
    }

    @Test func aPasswordThatNobodyAsksForIsRefused() async throws {
        let server = try await RedisServer.start()
        let failure = await #expect(throws: RedisFailure.self) {
            try await RedisConnection.connect(server, url: server.url(password: "hush"))
        }
        #expect(failure?.kind == .authentication)
        #expect(failure?.message.contains("hush") == false)
    }

    @Test func aServerThatQuotesWhatItDoesNotKnowDoesNotGiveThePasswordAway() async throws {
        let server = try await RedisServer.start(settings: ["rename-command": "AUTH LOGIN"])
        let failure = await #expect(throws: RedisFailure.self) {
            try await RedisConnection.connect(server, url: server.url(password: "hush"))
        }
        #expect(failure?.kind == .authentication)
        #expect(failure?.message == "ERR unknown command 'AUTH'")
    }

    @Test func aServerWithoutHELLOSpeaksRESP2() async throws {
        let server = try await RedisServer.start(settings: ["rename-command": "HELLO \"\""])
        let connection = try await RedisConnection.connect(server, query: "?protocol=3")
        #expect(connection.protocolVersion == 2)
        #expect(try await connection.command("CONFIG", "GET", "port").elements?.count == 2)
    }

    @Test func aFullServerSaysSo() async throws {
        let server = try await RedisServer.start(settings: ["maxclients": "1"])
        let connection = try await RedisConnection.connect(server)
        let failure = await #expect(throws: RedisFailure.self) {
            try await RedisConnection.connect(server)
        }
        #expect(failure?.kind == .connection)
        #expect(failure?.message.contains("max number of clients") == true, "\(failure as Any)")
        #expect(connection.isOpen)
    }

    @Test func theFactsOfAServer() async throws {
        let server = try await RedisServer.start(settings: ["maxmemory-policy": "allkeys-lru"])
        for query in ["?protocol=2", "?protocol=3"] {
            let connection = try await RedisConnection.connect(server, query: query)
            let facts = try await RedisServerFacts.read(from: connection)
            #expect(facts.version?.split(separator: ".").count == 3)
            #expect(facts.runID?.count == 40)
            #expect(facts.mode == .standalone)
            #expect(facts.role == .master)
            #expect(facts.replicationID?.count == 40)
            #expect(facts.evictionPolicy == "allkeys-lru")
            #expect(facts.evictedKeys == 0)
            #expect(facts.port == server.port)
        }
        try server.command("ACL", "SETUSER", "weir", "on", ">pw", "+@all", "-info", "~*")
        let connection = try await RedisConnection.connect(
            server, url: server.url(user: "weir", password: "pw"))
        #expect(try await RedisServerFacts.read(from: connection) == RedisServerFacts(info: ""))
        let cluster = try await RedisServer.start(settings: ["cluster-enabled": "yes"])
        let member = try await RedisConnection.connect(cluster)
        #expect(try await RedisServerFacts.read(from: member).mode == .cluster)
    }

    @Test func valkeyIsTold() {
        let info = """
            # Server\r
            redis_version:7.2.4\r
            server_name:valkey\r
            valkey_version:8.1.0\r
            server_mode:cluster\r
            run_id:0123\r
            evicted_keys:x\r
            nonsense\r

            """
        let facts = RedisServerFacts(info: info)
        #expect(facts.isValkey)
        #expect(facts.version == "8.1.0")
        #expect(facts.mode == .cluster)
        #expect(facts.runID == "0123")
        #expect(facts.evictedKeys == nil)
        #expect(facts.role == nil)
        #expect(!RedisServerFacts(info: "redis_version:5.0.14\r\n").isValkey)
    }
}
