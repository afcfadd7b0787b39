import ArgumentParser
import WeirConfig

struct SchemaCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "schema",
        abstract: "Print the JSON Schema of the configuration, or the fields of one object.")

    @Option(help: "An object of the configuration, such as pipelines.*.source.") var path: String?
    @Flag(help: "Print the reference page (Markdown) instead.") var reference = false

    func run() throws {
        if reference {
            print(ReferenceWriter(descriptors: connectors).page(), terminator: "")
            return
        }
        guard let path else {
            print(JSONSchemaWriter(descriptors: connectors).schema(), terminator: "")
            return
        }
        guard let text = ReferenceWriter(descriptors: connectors).fields(path: path) else {
            throw Failure(
                .usage,
                "error: the configuration has no object \"\(path)\"; config/reference.md shows all")
        }
        print(text, terminator: "")
    }
}
