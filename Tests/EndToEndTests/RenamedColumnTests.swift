import Foundation
import Testing
import WeirTesting

extension EndToEnd {
    /// Columns that sinks name are renamed or dropped at the source.
    @Suite struct RenamedColumnTests {
        private let copy: PostgresCopy
        private let redis: RedisServer
        private let path: String

        init() async throws {
            copy = try await PostgresCopy.make(["public.t"])
            redis = try await RedisServer.start()
            path = copy.home.folder.file("rows.jsonl")
            try copy.source.sql("CREATE TABLE t (id int PRIMARY KEY, name text, note text)")
            try configure(naming: "name")
            try copy.home.once()
            try copy.deliver("INSERT INTO t VALUES (1, 'one', 'n1')")
        }

        /// Three sinks that name one column.
        private func configure(naming column: String) throws {
            let fields = [
                "copy": #"""
                "connection": "copy", "write": "table",
                "columns": { "id": "id", "label": "\#(column)" }
                """#,
                "rows": #"""
                "type": "file", "path": "\#(path)", "format": "row",
                "columns": { "id": "id", "label": "\#(column)" }
                """#,
                "cache": #"""
                "connection": "cache", "write": "string",
                "key": "{id}:{\#(column)}", "value": "\#(column)"
                """#,
            ]
            let sinks = fields.map { "\(quoted($0)): { \($1) }" }.joined(separator: ", ")
            try copy.home.configure(
                """
                {
                  "connections": {
                    "db": { "type": "postgres", "url": "\(copy.source.url)" },
                    "copy": { "type": "postgres", "url": "\(copy.target.url)" },
                    "cache": { "type": "redis", "url": "\(redis.url())" }
                  },
                  "pipelines": {
                    "shop": {
                      "source": { "connection": "db", "tables": ["public.t"] },
                      "sinks": { \(sinks) }
                    }
                  }
                }
                """)
        }

        private func expectAll(_ column: String, at location: SourceLocation = #_sourceLocation)
            throws
        {
            try copy.expectEqual(
                "(SELECT id, \(column) AS label FROM t)", "(SELECT id, label FROM t)", at: location)
            let rows = try copy.source.sql(
                "SELECT '{\"id\":' || id || ',\"label\":\"' || \(column) || '\"}' FROM t ORDER BY id"
            )
            #expect(
                lines(of: path) == rows.split(separator: "\n").map(String.init),
                sourceLocation: location)
            let values = try redis.contents().values.map {
                String(decoding: $0.key + [UInt8(ascii: "=")] + $0.value, as: UTF8.self)
            }
            let expected = try copy.source.sql(
                "SELECT id || ':' || \(column) || '=' || \(column) FROM t ORDER BY 1")
            #expect(
                values.sorted() == expected.split(separator: "\n").map(String.init),
                sourceLocation: location)
        }

        @Test(
            "a column that sinks name and that is renamed goes on, whichever of the ways is taken",
            arguments: ["stopped", "running"])
        func renamed(when: String) async throws {
            let row = "INSERT INTO t VALUES (3, 'three', 'n3')"
            let rename = "INSERT INTO t VALUES (2, 'two', 'n2'); ALTER TABLE t RENAME name TO "
            if when == "running" {
                try await copy.whileRunning {
                    try copy.source.sql("\(rename) title; \(row)")
                    try await copy.untilSame(
                        "(SELECT id, title AS label FROM t)", "(SELECT id, label FROM t)")
                    try await eventually("the rename is said") {
                        copy.home.logText().contains(#"is called \"title\" now"#)
                    }
                }
            } else {
                // No look sees the name that the row has.
                try copy.source.sql(
                    "\(rename) middle; \(row); ALTER TABLE t RENAME middle TO title")
            }
            // Nothing was changed in the configuration: what lies before and behind is delivered.
            let answer = try copy.home.weir("run", "--once")
            #expect(answer.code == 0, "\(answer.err)")
            #expect(answer.err.contains("values.column_renamed"), "\(answer.err)")
            try expectAll("title")
            // One way of the hint: back at the source, with rows in between that have the new name.
            try copy.source.sql(
                """
                INSERT INTO t VALUES (4, 'four', 'n4'); ALTER TABLE t RENAME title TO name;
                INSERT INTO t VALUES (5, 'five', 'n5')
                """)
            try copy.home.once()
            try expectAll("name")
            // The other: the new name in the configuration, with rows before it that have the old.
            try copy.source.sql(
                """
                INSERT INTO t VALUES (6, 'six', 'n6'); ALTER TABLE t RENAME name TO title;
                INSERT INTO t VALUES (7, 'seven', 'n7')
                """)
            try configure(naming: "title")
            let last = try copy.home.weir("run", "--once")
            #expect(last.code == 0 && !last.err.contains("values."), "\(last.err)")
            try expectAll("title")
        }

        @Test(
            "of a column that sinks name and that is dropped, what was written before is delivered",
            arguments: ["stopped", "running"])
        func dropped(when: String) async throws {
            let before = "INSERT INTO t SELECT g, 'v' || g, 'n' FROM generate_series(2, 9) g"
            let drop = "ALTER TABLE t DROP name; INSERT INTO t VALUES (10, 'behind')"
            let daemon: ChildProcess
            if when == "stopped" {
                try copy.source.sql("\(before); \(drop)")
                daemon = try copy.home.run()
            } else {
                daemon = try copy.home.run()
                try await copy.home.untilStreaming()
                try copy.source.sql("\(before); \(drop)")
            }
            let problem = try await copy.home.untilProblem("values.unknown_column")
            try await eventually("all sinks have what lies before") {
                try copy.target.count("t") == 9 && lines(of: path).count == 9
                    && redis.contents().values.count == 9
            }
            #expect(problem.detail?.contains("take it out") == true, "\(problem)")
            daemon.signal(SIGTERM)
            _ = try await daemon.wait()
            #expect(try copy.target.sql("SELECT label FROM t WHERE id = 9") == "v9")
            // The hint: another column in its place.
            try configure(naming: "note")
            try copy.home.once()
            #expect(try copy.target.sql("SELECT label FROM t WHERE id = 10") == "behind")
            #expect(lines(of: path).last == #"{"id":10,"label":"behind"}"#)
            #expect(try redis.contents().values.count == 10)
        }
    }
}
