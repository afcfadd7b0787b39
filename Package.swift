// swift-tools-version: 6.2
import PackageDescription

// Every target of ours compiles under all of these; a warning is an error.
let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6), .strictMemorySafety(), .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"), .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
]

func library(
    _ name: String, path: String? = nil, _ dependencies: [Target.Dependency] = []
) -> Target {
    .target(name: name, dependencies: dependencies, path: path, swiftSettings: strict)
}

func tests(
    _ name: String, path: String? = nil, _ dependencies: [Target.Dependency]
) -> Target {
    .testTarget(name: name, dependencies: dependencies, path: path, swiftSettings: strict)
}

let package = Package(
    name: "weir",
    platforms: [.macOS(.v15)],
    products: [
        .executable(name: "weir", targets: ["weir"]),
        .executable(name: "weir-bench", targets: ["weir-bench"]),
    ],
    // Exactly these: a new version is read before it is taken.
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
        .package(url: "https://github.com/apple/swift-collections", exact: "1.6.0"),
        .package(url: "https://github.com/apple/swift-log", exact: "1.16.2"),
        .package(url: "https://github.com/apple/swift-nio", exact: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", exact: "2.37.6"),
        .package(url: "https://github.com/groue/GRDB.swift", exact: "7.10.0"),
        .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", exact: "0.2.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", exact: "2.13.0"),
    ],
    targets: [
        library("WeirCore"),
        library("WeirJSON"),
        library("WeirFiles"),
        library("WeirValues", ["WeirCore", "WeirJSON"]),
        library("WeirConfig", ["WeirCore", "WeirJSON"]),
        library(
            "WeirEngine",
            [
                "WeirCore", "WeirFiles",
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "Histogram", package: "hdrhistogram-swift"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ]),
        library("WeirTesting", ["CLibMongoC", "WeirCore"]),

        // Connectors: one folder each, listed once here and once in Sources/weir/Connectors.swift.
        .systemLibrary(
            name: "CLibPQ", path: "connectors/postgres/CLibPQ", pkgConfig: "libpq",
            providers: [.apt(["libpq-dev"]), .brew(["libpq"])]),
        library("WeirPostgresClient", path: "connectors/postgres/Client", ["CLibPQ", "WeirCore"]),
        library(
            "WeirPostgresSource", path: "connectors/postgres/Source",
            ["WeirCore", "WeirJSON", "WeirValues", "WeirPostgresClient"]),
        library(
            "WeirPostgresSink", path: "connectors/postgres/Sink",
            ["WeirCore", "WeirJSON", "WeirValues", "WeirPostgresClient"]),
        library(
            "WeirRedisClient", path: "connectors/redis/Client",
            [
                "WeirCore",
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
            ]),
        library(
            "WeirRedisSink", path: "connectors/redis/Sink",
            [
                "WeirCore", "WeirJSON", "WeirValues", "WeirRedisClient",
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ]),
        .systemLibrary(
            name: "CLibMongoC", path: "connectors/mongodb/CLibMongoC",
            pkgConfig: "libmongoc-1.0",
            providers: [.apt(["libmongoc-dev"]), .brew(["mongo-c-driver"])]),
        .target(
            name: "CLibraryCounters", path: "connectors/mongodb/CLibraryCounters",
            publicHeadersPath: "."),
        .target(
            name: "CMessageGuard", dependencies: ["CLibMongoC"],
            path: "connectors/mongodb/CMessageGuard", publicHeadersPath: "."),
        library(
            "WeirMongoDBClient", path: "connectors/mongodb/Client",
            ["CLibMongoC", "CLibraryCounters", "CMalloc", "CMessageGuard", "WeirCore"]),
        library(
            "WeirMongoDBSource", path: "connectors/mongodb/Source",
            ["WeirCore", "WeirJSON", "WeirValues", "WeirMongoDBClient"]),
        library(
            "WeirBuiltinSink", path: "connectors/builtin/Sink",
            ["WeirCore", "WeirFiles", "WeirJSON", "WeirValues"]),

        .systemLibrary(name: "CMalloc", path: "Sources/CMalloc"),
        .executableTarget(
            name: "weir",
            dependencies: [
                "CMalloc",
                "WeirConfig", "WeirEngine", "WeirMongoDBSource", "WeirPostgresSink",
                "WeirPostgresSource",
                "WeirRedisSink", "WeirBuiltinSink",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
            ],
            swiftSettings: strict),
        .executableTarget(
            name: "weir-bench",
            dependencies: ["CLibMongoC", "WeirJSON", "WeirTesting", "WeirValues"],
            swiftSettings: strict),

        tests("WeirCoreTests", ["WeirCore"]),
        tests("WeirJSONTests", ["WeirJSON", "WeirTesting"]),
        tests(
            "WeirValuesTests",
            ["CLibMongoC", "WeirCore", "WeirJSON", "WeirTesting", "WeirValues"]),
        tests("WeirConfigTests", ["WeirConfig", "WeirCore", "WeirJSON", "WeirTesting"]),
        tests(
            "WeirEngineTests",
            [
                "WeirEngine", "WeirCore", "WeirFiles", "WeirTesting",
                .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "Logging", package: "swift-log"),
            ]),
        tests("WeirTestingTests", ["WeirTesting"]),
        tests(
            "PostgresTests", path: "Tests/connectors/postgres",
            [
                "WeirCore", "WeirJSON", "WeirValues", "WeirPostgresClient", "WeirPostgresSink",
                "WeirPostgresSource", "WeirTesting",
            ]),
        tests(
            "RedisTests", path: "Tests/connectors/redis",
            [
                "WeirCore", "WeirJSON", "WeirValues", "WeirRedisClient", "WeirRedisSink",
                "WeirTesting",
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ]),
        tests(
            "MongoDBTests", path: "Tests/connectors/mongodb",
            [
                "CLibMongoC", "WeirCore", "WeirJSON", "WeirValues", "WeirMongoDBClient",
                "WeirMongoDBSource", "WeirTesting",
            ]),
        tests(
            "BuiltinTests", path: "Tests/connectors/builtin",
            ["WeirCore", "WeirJSON", "WeirValues", "WeirBuiltinSink", "WeirTesting"]),
        tests("EndToEndTests", ["WeirTesting", "weir"]),
        tests("TidyTests", ["WeirConfig", "WeirCore", "WeirTesting", "weir"]),
    ]
)
