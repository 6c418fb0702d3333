<?php
// What the server knows of a job: known, running, numerator, denominator.
// php status.php SERVERS HANDLE | php status.php SERVERS unique UNIQUE
$client = new GearmanClient();
$client->addServers($argv[1]);
$status = $argv[2] == "unique" ? $client->jobStatusByUniqueKey($argv[3]) : $client->jobStatus($argv[2]);
echo implode(" ", array_map("intval", $status)) . "\n";
