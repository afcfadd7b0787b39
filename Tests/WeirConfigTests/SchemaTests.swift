import Testing
import WeirConfig
import WeirCore
import WeirJSON

@Suite struct SchemaTests {
    private let schema = JSONSchemaWriter(descriptors: Fakes.connectors)
    private let reference = ReferenceWriter(descriptors: Fakes.connectors)

    @Test func theSchemaIsJSONWithOrderedUniqueKeys() throws {
        let root = try JSONDocument.parse(Array(schema.schema().utf8))
        try checkUnique(root)
        guard case .object(let members) = root.value else { return }
        #expect(
            members.map(\.key) == [
                "$schema", "title", "description", "type", "properties", "required",
                "additionalProperties",
            ])
        #expect(members[0].value.value == .string("http://json-schema.org/draft-07/schema#"))
        #expect(schema.schema() == JSONSchemaWriter(descriptors: Fakes.connectors).schema())
    }

    @Test func everyFieldIsInTheSchemaAndTheReference() {
        let text = schema.schema()
        let page = reference.page()
        for descriptor in Fakes.connectors {
            let fields =
                (descriptor.connectionFields ?? []) + (descriptor.source?.fields ?? [])
                + (descriptor.sink?.fields ?? []) + LaneFields.fields
            for field in fields {
                #expect(text.contains("\"\(field.name)\": {"), "\(field.name)")
                #expect(page.contains("| `\(field.name)` |"), "\(field.name)")
            }
        }
    }

    @Test func aNestedObjectIsDescribedWithItsKeys() throws {
        let part = try #require(schema.schema(path: "pipelines.*.sinks.*"))
        #expect(
            part.contains(
                """
                      "limits": {
                        "description": "How much is taken.",
                        "type": "object",
                        "properties": {
                          "rows": {
                            "description": "How many rows.",
                            "type": "integer",
                            "minimum": 1,
                            "maximum": 100,
                            "default": 10
                          },
                          "pause": {
                            "description": "How long between them. (Duration, 1s to 10s.)",
                            "type": "string",
                            "pattern": "^[0-9]+(ms|s|m|h)$",
                            "default": "2s"
                          }
                        },
                        "additionalProperties": false,
                        "default": {}
                      },

                """))
        #expect(part.contains(#""required": ["A"],"#))
        #expect(
            reference.page().contains(
                """
                | `text` | object |  | What is searched. Example: `{ "A": ["title"] }` |
                | `text.config` | text | `"simple"` | The language. |
                | `text.A` | list of texts | **required** | What weighs most. Example: `["title"]` |
                | `text.B` | list of texts |  | What weighs less. |
                | `text.rank` | object |  | How hits are ordered. |
                | `text.rank.scale` | "log", "none" |  | The scale. |
                | `text.pass` | secret |  | What opens the index. |
                | `limits` | object | `{}` | How much is taken. |

                """))
        #expect(
            reference.fields(path: "pipelines.*.sinks.*.text.rank") == """
                pipelines.*.sinks.*
                  One place events go to. Sinks wait for one another only while a spill is full.

                with a connection of type "bus"
                  text.rank  (object)
                      How hits are ordered.
                  text.rank.scale  ("log", "none")
                      The scale.

                """)
        #expect(reference.fields(path: "pipelines.p.sinks.s.text.rank.scale") != nil)
        #expect(reference.fields(path: "pipelines.p.sinks.s.text.scale") == nil)
    }

    @Test func aPartOfTheSchemaIsFoundByItsPath() throws {
        let daemon = try #require(schema.schema(path: "daemon"))
        #expect(
            daemon.hasPrefix(
                """
                {
                  "description": "How the daemon itself behaves.",
                  "type": "object",
                  "properties": {
                    "shutdown_timeout": {
                """))
        #expect(daemon.contains(#""pattern": "^[0-9]+(ms|s|m|h)$","#))
        #expect(daemon.contains(#""default": "30s""#))
        #expect(schema.schema(path: ".") == schema.schema())
        #expect(
            schema.schema(path: "pipelines.x.source") == schema.schema(path: "pipelines.*.source"))
        #expect(schema.schema(path: "nowhere") == nil)
        for path in reference.paths {
            let part = try #require(schema.schema(path: path))
            try checkUnique(try JSONDocument.parse(Array(part.utf8)))
        }
    }

    @Test func theFieldsOfAnObjectAreListedForPeople() throws {
        let daemon = try #require(reference.fields(path: "daemon"))
        #expect(
            daemon == """
                daemon
                  How the daemon itself behaves.

                  shutdown_timeout  (duration, 1s to 1h, default "30s")
                      How long a stop may take to deliver what was read. What is left then is
                      read again at the next start.
                  log  ("auto", "text", "logfmt", "json", default "auto")
                      The form of the log: auto is text on a terminal, logfmt in systemd's
                      journal, and json, one object per line, elsewhere.
                  log_level  ("debug", "info", "warning", "error", default "info")
                      The least important lines to log.

                """)
        #expect(
            reference.fields(path: "pipelines.shop.source.slot") == """
                pipelines.*.source
                  What a pipeline reads.

                with a connection of type "shopdb"
                  slot  (text)
                      The slot.
                      Example: "weir_shop"

                """)
        for path in reference.paths { #expect(reference.fields(path: path) != nil, "\(path)") }
        #expect(reference.fields(path: "pipelines.*.sinks.*.nothing") == nil)
        #expect(reference.fields(path: "") != nil)
    }

    @Test func everyPathOfALastLineCanBeAskedFor() {
        let faulty = [
            "{}", file(connection: #""type": "bus", "url": "x", "y": 1"#),
            file(source: #""connection": "shop""#), file(sink: "\"connect\": 1"),
            searched(#""B": ["body"]"#), searched(#""A": ["title"], "rank": { "skale": "log" }"#),
            #"{ "pipelines": { "p": {} } }"#, #"{ "daemon": { "x": 1 }, "pipelines": {} }"#,
        ]
        for text in faulty {
            let path = check(text).errors.compactMap(\.objectPath).first
            #expect(path.flatMap { reference.fields(path: $0) } != nil, "\(text)")
        }
    }

    @Test func theReferencePageHasATableForEachObject() {
        let page = reference.page()
        #expect(
            page.contains(
                """
                ## `pipelines.NAME.sinks.NAME`

                One place events go to. Sinks wait for one another only while a spill is full.

                | Key | Type | Default | Meaning |
                |---|---|---|---|
                | `connection` | text |  | The connection of this sink, by its name under connections. Example: `"shop"` |
                """))
        #expect(
            page.contains(
                "| `path` | text | **required** | The file, or \\| for standard output. "
                    + "Example: `\"changes.jsonl\"` |"))
        #expect(page.contains("### Connection of type `bus`"))
        #expect(page.contains("### Sink `lines`"))
        #expect(page.hasSuffix("\n") && !page.contains("\n\n\n"))
    }

    @Test func faultyDescriptorsAreFound() {
        #expect(loader.descriptorFaults() == [])
        let faulty = ConnectorDescriptor(
            type: "Bad", summary: "",
            connectionFields: [
                ConfigField("type", .string, "Taken."),
                ConfigField("camelCase", .string, "Not snake."),
                ConfigField("size", .size(0...10), "Too big.", default: #""1KiB""#),
                ConfigField("both", .boolean, "Both.", required: true, default: "true"),
                ConfigField("short", .boolean, "No sentence", example: "1"),
            ])
        let faults = ConfigLoader(descriptors: [faulty]).descriptorFaults()
        #expect(faults.count == 7, "\(faults)")
    }

    @Test func faultsOfNestedFieldsAreFoundWithTheirPath() {
        let inner = [
            ConfigField("A", .list(of: .string), "Fine in here."),
            ConfigField("Ab", .string, "Not snake."), ConfigField("type", .string, "Free in here."),
            ConfigField("flag", .boolean, "Bad default.", default: "1"),
            ConfigField("flag", .boolean, "Taken."),
        ]
        let faulty = ConnectorDescriptor(
            type: "nested", summary: "",
            connectionFields: [
                ConfigField("A", .string, "A letter says nothing out here."),
                ConfigField("text", .object(inner), "Nested.", example: #"{ "b": 1 }"#),
            ])
        #expect(
            ConfigLoader(descriptors: [faulty]).descriptorFaults() == [
                "nested connection: \"A\" is not snake_case",
                "nested connection: \"text\" does not take its own default or example { \"b\": 1 }",
                "nested connection: \"text.Ab\" is not snake_case",
                "nested connection: \"text.flag\" does not take its own default or example 1",
                "nested connection: \"text.flag\" is taken",
            ])
    }

    private func checkUnique(_ node: JSONNode) throws {
        switch node.value {
        case .object(let members):
            #expect(Set(members.map(\.key)).count == members.count)
            for member in members { try checkUnique(member.value) }
        case .array(let elements): for element in elements { try checkUnique(element) }
        default: break
        }
    }
}
