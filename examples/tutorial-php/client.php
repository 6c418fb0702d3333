<?php
// The tutorial's client: php client.php reverse TEXT, php client.php resize FILE >SMALL
[, $function, $given] = $argv;
$client = new GearmanClient();
if (!getenv("GEARMAN_SERVERS")) {
    $client->addServer();
}
$answer = $client->doNormal($function, is_file($given) ? file_get_contents($given) : $given);
if ($client->returnCode() != GEARMAN_SUCCESS) {
    fwrite(STDERR, $client->error() . "\n");
    exit(1);
}
echo $answer;
