/// What the command line asked for.
struct Arguments {
    enum Action {
        case measure, listCases, showHelp
    }

    private(set) var action = Action.measure
    private(set) var cases = BenchmarkCase.all
    /// Nil means each case's own number.
    private(set) var rows: Int?
    private(set) var rounds = 5
    private(set) var printsJSON = false

    static let help = """
        Usage: weir-bench [--case NAME]... [--rows N] [--rounds N] [--json]
               weir-bench --list | --help

        Measures the weir program that lies beside this one, each time next to what the machine
        can do at best: pg_recvlogical of the same PostgreSQL, or a bare loop over MongoDB's change
        stream, in the same run, alternating. It starts its own PostgreSQL, Redis and MongoDB (an
        installed mongod, or the one that WEIR_TEST_MONGOD names) and removes everything at the
        end. It needs no arguments.

          --case NAME   only this case; may be given several times
          --rows N      changes in a backlog (default 500000; mixed: 300000; postgres-search,
                        mongodb-backlog: 200000; mongodb-images: 100000) or documents in a round
                        of bson-json (200000)
          --rounds N    alternating rounds per backlog (default 5)
          --json        print the report as JSON on stdout, the progress on stderr
          --list        name the cases

        Build both programs first, in one folder:
          swift build -c release --static-swift-stdlib --product weir
          swift build -c release --static-swift-stdlib --product weir-bench

        How a backlog is measured: every round has its own pair of replication slots, made before
        the load. Time is from the start of the process to its end, so it includes start-up,
        Weir's checkpoints and its final fsync. The ratio is pg_recvlogical's time divided by
        Weir's, the median over the rounds' pairs: 1.00 means as fast as the limit. What each
        program wrote is counted, change by change. fsync is one more fsync of the finished file,
        timed after the process ended.

        A backlog to Redis: one server on the same machine, without persistence, and beside it
        redis-benchmark -P 100, as many SETs of the mean size. Afterwards each row has its value
        and its version, and a sample of the values is compared with PostgreSQL's own JSON. The
        column "server" is the Redis server's CPU time meanwhile.

        A backlog to PostgreSQL: a second server on the same machine, both with fsync and the
        default durability, and beside Weir a native subscription that applies the same WAL to an
        equal table of the same server, from ALTER SUBSCRIPTION ENABLE until the last row is
        visible. The ratio is to that. Every turn begins with an equal table and a checkpoint, and
        afterwards all rows are compared with the source's. postgres-search has COPY FROM a file
        of the same rows beside it. The column "server" is the CPU time of that whole server.

        Latency to PostgreSQL: a session at the target asks all the time which rows it sees. Weir
        and the subscription take turns.

        A backlog from MongoDB: beside Weir a process that runs libmongoc's own loop, with its own
        defaults, over the database's change stream and only counts. Both start after the same
        resume token, stored before the load, and the loop has run once before so that the oplog
        is in the server's memory. A document has \(Products.byteCount) bytes of BSON. The column
        "server" is mongod's CPU time meanwhile. mongodb-images asks both for the documents before
        and after each update; then, without images, the loop has the server look documents up
        (updateLookup), and Weir looks them up itself. bson-json starts no server: it renders the
        same documents in memory, each renderer in turn.

        How to read noise: compare ratios, not seconds, and run nothing else on the machine.

        Exit code: 0 when every goal was met, 1 when one was not, 64 for wrong arguments, 70 when
        a measurement failed.
        """

    init(_ words: some Sequence<String>) throws(UsageError) {
        var chosen: [BenchmarkCase] = []
        var rest = words.makeIterator()
        while let word = rest.next() {
            switch word {
            case "--help", "-h": action = .showHelp
            case "--list": action = .listCases
            case "--json": printsJSON = true
            case "--rows": rows = try Self.count(rest.next(), word)
            case "--rounds": rounds = try Self.count(rest.next(), word)
            case "--case":
                let name = rest.next() ?? ""
                guard let found = BenchmarkCase.all.first(where: { $0.name == name }) else {
                    let names = BenchmarkCase.all.map(\.name).joined(separator: ", ")
                    throw UsageError("there is no case \"\(name)\"; there are \(names)")
                }
                chosen.append(found)
            default: throw UsageError("unknown argument \"\(word)\"")
            }
        }
        if !chosen.isEmpty { cases = chosen }
    }

    private static func count(_ text: String?, _ option: String) throws(UsageError) -> Int {
        guard let text, let number = Int(text), number > 0 else {
            throw UsageError("\(option) takes a whole number above 0")
        }
        return number
    }
}

struct UsageError: Error {
    let text: String

    init(_ text: String) { self.text = text }
}
