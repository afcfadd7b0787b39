import Testing
import WeirCore
import WeirPostgresClient

@testable import WeirPostgresSink

/// What the target's SQLSTATEs mean for a write, and for the engine; without any server.
struct SinkFailureTests {
    private static let classes: [(state: String, expected: FailureClass)] = [
        // The form and order of rows: written again more carefully.
        ("21000", .data), ("22001", .data), ("22003", .data), ("22007", .data), ("22012", .data),
        ("22021", .data), ("22P02", .data), ("22P04", .data), ("22P05", .data), ("23502", .data),
        ("23503", .data), ("23505", .data), ("23514", .data), ("23P01", .data), ("27000", .data),
        ("44000", .data), ("P0001", .data), ("P0004", .data), ("42804", .data), ("54000", .data),
        ("428C9", .data), ("54011", .data), ("0A000", .data),
        // A function of the target's may raise anything.
        ("XX000", .data), ("ZZ999", .data), ("2F005", .data), ("39004", .data),
        // Others at work.
        ("40001", .conflict), ("40P01", .conflict), ("55P03", .conflict), ("57014", .conflict),
        // The target is not what it was.
        ("42P01", .definition), ("42703", .definition), ("42P10", .definition),
        ("3F000", .definition), ("42704", .definition),
        // Neither rows nor definitions.
        ("42501", .environment), ("25006", .environment), ("53100", .environment),
        ("53200", .environment), ("53300", .environment), ("57P01", .environment),
        ("08006", .environment), ("28000", .environment), ("58030", .environment),
        ("25P02", .environment), ("26000", .environment), ("", .environment),
    ]

    @Test func aStateSaysWhatToTryNext() {
        for (state, expected) in Self.classes {
            let failure = PostgresFailure(.statement, "division by zero", sqlState: state)
            #expect(FailureClass(failure) == expected, "\(state)")
            // Behind a connection that is gone nothing can be tried, whatever it said last.
            for kind in [.connection, .timeout, .cancelled] as [PostgresFailure.Kind] {
                #expect(
                    FailureClass(PostgresFailure(kind, "no", sqlState: state)) == .environment,
                    "\(state)")
            }
        }
    }

    /// One list says what passes by itself: what is no row's matter is in it, but for rights, which
    /// somebody must grant.
    @Test func whatIsNoRowsMatterPasses() {
        for (state, expected) in Self.classes where state != "42501" {
            guard expected == .environment || expected == .conflict else { continue }
            #expect(ServerFailureMap.passes(state), "\(state)")
        }
    }

    @Test func whatTheServerQuotesIsNotShown() throws {
        let map = SinkFailureMap(
            server: ServerFailureMap(try ConnectionString("postgres://127.0.0.1/orders")))
        let failure = PostgresFailure(
            .statement, #"invalid input syntax for type integer: "secret""#, sqlState: "22P02")
        let message = map.error(failure, doing: "write").message
        #expect(message.hasSuffix("invalid input syntax for type integer"))
        // Names are no values.
        let named = PostgresFailure(
            .statement, #"null value in column "v" of relation "t""#, sqlState: "23502")
        #expect(map.error(named, doing: "write").message.contains(#"column "v" of relation "t""#))
    }

    private static let mapped: [(state: String, code: ErrorCode)] = [
        ("42501", .permission), ("25006", .readOnly), ("53100", .diskFull), ("53200", .diskFull),
        ("55P03", .timeout), ("57014", .timeout), ("53300", .limitReached),
        ("57P01", .connectionFailed), ("08006", .connectionFailed), ("28P01", .connectionFailed),
        ("3D000", .connectionFailed), ("XX000", .commandFailed), ("55000", .commandFailed),
        ("40001", .commandFailed), ("58030", .commandFailed),
    ]

    /// What no waiting helps, by class.
    private static let lasting = [
        "0A000", "21000", "22003", "23505", "2F005", "38001", "42601", "42P01", "42883", "44000",
        "54000", "P0001", "XX001", "XX002", "ZZ999",
    ]

    @Test func whatComesAgainForEverStopsTheSecondTime() throws {
        let map = SinkFailureMap(
            server: ServerFailureMap(try ConnectionString("postgres://db.internal/orders")))
        for state in Self.lasting {
            #expect(!ServerFailureMap.passes(state), "\(state)")
            let failure = PostgresFailure(.statement, "the server's words", sqlState: state)
            let first = map.error(failure, doing: "write", isRepeated: false)
            #expect(first.code == .commandFailed && first.disposition == .transient, "\(state)")
            let second = map.error(failure, doing: "write")
            #expect(second.code == .commandFailed && second.disposition == .blocked, "\(state)")
            #expect(second.hint?.isEmpty == false && second.detail?.contains(state) == true)
            // While it connects, a server says what it likes.
            let lost = PostgresFailure(.connection, "the server's words", sqlState: state)
            #expect(map.error(lost, doing: "connect").disposition == .transient, "\(state)")
        }
        for (state, _) in Self.mapped where state != "42501" {
            #expect(ServerFailureMap.passes(state), "\(state)")
        }
    }

    @Test func namesThatAFunctionLooksForAreNotTheTargets() {
        for state in ["42P01", "42703", "42704"] {
            let failure = PostgresFailure(
                .statement, "no such thing", sqlState: state, isInFunction: true)
            #expect(FailureClass(failure) == .data, "\(state)")
        }
    }

    @Test func aStateSaysWhatTheOperatorReads() throws {
        let string = try ConnectionString("postgres://weir:secret@db.internal:5433/orders")
        let map = SinkFailureMap(server: ServerFailureMap(string))
        for (state, code) in Self.mapped {
            let error = map.error(
                PostgresFailure(.statement, "the server's words", sqlState: state), doing: "write")
            #expect(error.code == code, "\(state)")
            #expect(error.disposition == .transient, "\(state)")
            #expect(
                error.message
                    == "could not write at db.internal:5433/orders: the server's words", "\(state)")
            #expect(error.detail?.contains(state) == true)
        }
        let refused = map.error(
            PostgresFailure(.statement, "no", sqlState: "42501"), doing: "write")
        #expect(refused.hint?.contains(#"Let "weir" own"#) == true)
        #expect(
            map.error(PostgresFailure(.connection, "gone"), doing: "write").code
                == .connectionFailed)
        #expect(map.error(PostgresFailure(.timeout, "slow"), doing: "write").code == .timeout)
        let cancelled = map.error(PostgresFailure(.cancelled, "cancelled"), doing: "write")
        #expect(cancelled.code == .cancelled && cancelled.disposition == .transient)
    }

    @Test func everyCodeIsExplained() {
        let codes = ErrorCode.postgresSink
        #expect(Set(codes.map(\.name)).count == codes.count)
        for code in codes {
            #expect(code.name.hasPrefix("postgres.") && !code.remedy.isEmpty, "\(code.name)")
        }
    }
}
