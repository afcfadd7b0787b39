import Foundation
import Glibc
import Testing
import WeirTesting

extension EndToEnd {
    /// The server goes away and comes back; the file has each change once.
    @Suite struct MongoOutageTests {
        private let database: MongoDatabase

        init() async throws {
            database = try await MongoDatabase.alone()
            try await MongoWorkload.install(in: database)
        }

        private var node: MongoServer { database.replicas.nodes[0] }

        private func untilFailing(_ home: WeirHome) async throws {
            let problem = try await home.untilProblem("mongodb.connection_failed")
            #expect(problem.component == "source")
            #expect(problem.message.contains(node.address), "\(problem)")
            try await eventually("it says so") {
                try home.status().pipeline("shop")?.state == "failing"
            }
            #expect(try home.weir("status").out.contains("! shop/source  "))
        }

        /// Waits for so many changes more.
        private func flows(_ home: WeirHome, _ count: Int = 30) async throws {
            let before = lines(of: home.output).count
            do {
                try await eventually(within: .seconds(30), "changes flow") {
                    lines(of: home.output).count > before + count
                }
            } catch {
                throw TestingError("\(error): \(home.logText().suffix(3000))")
            }
        }

        @Test func aServerThatStopsOrDiesIsWaitedFor() async throws {
            var random = SeededRandom("outages of MongoDB")
            let home = try WeirHome(database, collections: MongoWorkload.collections)
            try home.once()
            let begin = try await database.now()
            var daemon = try home.run()
            try await home.untilStreaming()
            for round in 0..<3 {
                let writers = try MongoWorkload.writers(2, in: database, &random)
                try await flows(home)
                if round.isMultiple(of: 2) { try await node.stop() } else { node.kill() }
                try await untilFailing(home)
                #expect(daemon.isRunning)
                if round == 2 {
                    // The daemon ends, and starts while there is no server.
                    try await home.stop(daemon)
                    #expect(try home.weir("run", "--once").code == 75)
                    daemon = try home.run()
                    try await untilFailing(home)
                    try await eventually(within: .seconds(30), "it is tried again") {
                        try home.facts().problems.first?.attempt ?? 0 >= 2
                    }
                }
                try await node.start()
                _ = try await database.replicas.primary()
                try await home.untilStreaming()
                try await flows(home)
                for writer in writers { #expect(await writer.stop() > 0) }
            }
            #expect(home.logText().contains("streaming again"))
            try await home.settle(daemon)
            let expected = try await database.tokens(
                of: MongoWorkload.collections, behind: begin)
            #expect(try documentTokens(home.output) == expected)
            print("\(expected.count) changes over three outages")
        }

        /// Its port takes connections and nobody answers.
        @Test func aServerThatHangsIsGivenUpAndDoesNotHoldAStop() async throws {
            let url = database.replicas.url(options: [
                "socketTimeoutMS=1000", "connectTimeoutMS=1000", "serverSelectionTimeoutMS=1000",
            ])
            func configuration(_ url: String, _ home: WeirHome) -> String {
                WeirHome.configuration(
                    ["cms": url],
                    ["shop": WeirHome.filed("cms", #""database": "shop""#, home.output)])
            }
            let home = try WeirHome { configuration(url, $0) }
            var daemon = try home.run()
            try await home.untilStreaming()
            try await database.insert(1...5)
            try await eventually("five lines") { lines(of: home.output).count == 5 }
            node.suspend()
            try await untilFailing(home)
            #expect(try home.weir("position", "show", "shop").code == 0)
            node.resume()
            try await database.insert(6...9)
            try await eventually(within: .seconds(30), "all lines") {
                lines(of: home.output).count == 9
            }
            #expect(try documentIDs(home.output) == Array(1...9))
            try await home.stop(daemon)
            #expect(!home.logText().contains("mongodb.command_failed"))

            // Long before its patience ends, and before shutdown_timeout.
            try home.configure(configuration(database.url, home))
            daemon = try home.run()
            try await home.untilStreaming()
            node.suspend()
            daemon.signal(SIGTERM)
            #expect(try await daemon.wait(within: .seconds(15)) == .exited(0))
            #expect(!home.logText().contains("shutdown_timeout"))
            node.resume()
            try home.once()
            #expect(try documentIDs(home.output) == Array(1...9))
        }
    }
}
