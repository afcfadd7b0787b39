import Glibc
import Testing
import WeirTesting

/// Lives of the daemon that end with SIGKILL at random moments, and what came of them: a loop of
/// kills that proved nothing must not pass, on a slow machine either.
struct Lives: CustomStringConvertible {
    private(set) var kills = 0
    /// Lives after which the stored position was another.
    private(set) var advances = 0
    /// Lives that left more in the file than its mark says: the next start cuts and reads again.
    private(set) var truncations = 0
    /// After the last life.
    private var position: String?
    private var random: SeededRandom
    private let milliseconds: ClosedRange<Int>
    /// How many times longer lives are now. Where starting takes long, a life of the range gets
    /// nowhere: after three such lives in a row they become longer, and shorter again after one
    /// that did.
    private var stretch = 1
    private var idle = 0

    /// - Parameter milliseconds: how long a life lasts.
    init(_ test: String, _ milliseconds: ClosedRange<Int>) {
        random = SeededRandom(test)
        self.milliseconds = milliseconds
    }

    /// Whether something asked for is still missing.
    /// - Throws: when three times the kills did not bring it.
    func needMore(kills: Int, advances: Int, truncations: Int = 0) throws -> Bool {
        let isEnough =
            self.kills >= kills && self.advances >= advances && self.truncations >= truncations
        guard isEnough || self.kills < 3 * kills else { throw TestingError("too little: \(self)") }
        return !isEnough
    }

    /// One life.
    /// - Parameters:
    ///   - sink: whose row in the state store tells how far it came.
    ///   - meanwhile: what happens before it ends.
    mutating func live(
        _ home: WeirHome, sink: String, meanwhile: () async throws -> Void = {}
    ) async throws {
        try await live(home, meanwhile: meanwhile)
        let row = try #require(try home.positions()[sink])
        if let mark = row.mark, fileSize(home.output) > mark { truncations += 1 }
        ended(at: row.position)
    }

    /// One life; `after` tells how far it came.
    mutating func live(_ home: WeirHome, after: () throws -> String) async throws {
        try await live(home) {}
        ended(at: try after())
    }

    private mutating func live(
        _ home: WeirHome, meanwhile: () async throws -> Void
    ) async throws {
        let daemon = try home.run()
        try await Task.sleep(for: random.milliseconds(milliseconds) * stretch)
        try await meanwhile()
        #expect(daemon.isRunning, "it ended by itself: \(home.logText().suffix(2000))")
        daemon.signal(SIGKILL)
        #expect(try await daemon.wait() == .signalled(SIGKILL))
        kills += 1
    }

    private mutating func ended(at now: String) {
        if now != position {
            advances += position == nil ? 0 : 1
            idle = 0
            stretch = max(1, stretch - 1)
        } else {
            idle += 1
            if idle % 3 == 0 { stretch += 1 }
        }
        position = now
    }

    var description: String {
        "\(kills) kills, \(advances) lives that moved on, \(truncations) with too long a file"
    }
}
